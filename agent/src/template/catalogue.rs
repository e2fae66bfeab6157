//! Which templates there are.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::header::Header;

/// A template as it was found.
#[derive(Clone, Debug)]
pub struct Template {
    /// What it is called on the command line, such as `haproxy`.
    pub name: String,
    /// The name of its file, such as `haproxy.cfg`; shown in errors.
    pub file: String,
    /// The directory of the user's that it was read from; `None` for a built-in one.
    pub from: Option<PathBuf>,
    /// Its text.
    pub text: Cow<'static, str>,
    /// What it says of itself.
    pub header: Header,
}

/// Name, file and text of those that are built in.
const BUILT_IN: &[(&str, &str, &str)] = &[
    ("haproxy", "haproxy.cfg", include_str!("../../../templates/haproxy.cfg")),
    ("haproxy-dns", "haproxy-dns.cfg", include_str!("../../../templates/haproxy-dns.cfg")),
    ("pgbouncer", "pgbouncer.ini", include_str!("../../../templates/pgbouncer.ini")),
    (
        "pgbouncer-databases",
        "pgbouncer-databases.ini",
        include_str!("../../../templates/pgbouncer-databases.ini"),
    ),
    ("keepalived", "keepalived.conf", include_str!("../../../templates/keepalived.conf")),
    ("systemd", "hart.service", include_str!("../../../templates/hart.service")),
    ("consul-agent", "consul-agent.hcl", include_str!("../../../templates/consul-agent.hcl")),
    ("consul-policy", "consul-policy.hcl", include_str!("../../../templates/consul-policy.hcl")),
    ("load-balancer", "load-balancer.txt", include_str!("../../../templates/load-balancer.txt")),
    ("vip", "vip.yml", include_str!("../../../templates/vip.yml")),
    ("dns-dnsmasq", "dnsmasq.conf", include_str!("../../../templates/dns/dnsmasq.conf")),
    ("dns-unbound", "unbound.conf", include_str!("../../../templates/dns/unbound.conf")),
    ("dns-bind", "named.conf", include_str!("../../../templates/dns/named.conf")),
    (
        "dns-resolved",
        "systemd-resolved.conf",
        include_str!("../../../templates/dns/systemd-resolved.conf"),
    ),
    ("dns-consul", "consul-recursor.hcl", include_str!("../../../templates/dns/consul.hcl")),
];

/// The built-in templates, and a directory that goes before them.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// The user's own templates. A file stands for the built-in template of the same file name or
    /// name; any other is called by its name without the ending.
    pub dir: Option<PathBuf>,
}

impl Catalogue {
    /// All of them, the built-in ones first.
    ///
    /// # Errors
    /// The directory, or a file in it, cannot be read.
    pub fn all(&self) -> io::Result<Vec<Template>> {
        let mut all: Vec<Template> = BUILT_IN.iter().map(built_in).collect();
        for own in self.own()? {
            match all.iter_mut().find(|template| template.name == own.name) {
                Some(template) => *template = own,
                None => all.push(own),
            }
        }
        Ok(all)
    }

    fn own(&self) -> io::Result<Vec<Template>> {
        let Some(dir) = &self.dir else { return Ok(Vec::new()) };
        let named = |error: io::Error, path: &Path| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let mut own = Vec::new();
        for entry in fs::read_dir(dir).map_err(|error| named(error, dir))? {
            let path = entry?.path();
            let Some(file) = path.file_name().and_then(|file| file.to_str()) else { continue };
            if file.starts_with('.') || file.ends_with('~') || !path.is_file() {
                continue;
            }
            let text = fs::read_to_string(&path).map_err(|error| named(error, &path))?;
            let (name, file) = (name_of(file), file.to_owned());
            let header = Header::read(&text);
            own.push(Template { name, file, from: Some(dir.clone()), text: text.into(), header });
        }
        own.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(own)
    }
}

fn built_in(&(name, file, text): &(&str, &str, &'static str)) -> Template {
    let header = Header::read(text);
    Template { name: name.to_owned(), file: file.to_owned(), from: None, text: text.into(), header }
}

/// `haproxy.cfg` is the built-in `haproxy`, and so is `haproxy.j2`.
fn name_of(file: &str) -> String {
    let built_in = BUILT_IN.iter().find(|(_, known, _)| *known == file).map(|(name, ..)| *name);
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
    built_in.unwrap_or(stem).to_owned()
}
