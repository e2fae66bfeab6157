//! An error with its causes, in one line.

use std::error::Error;
use std::fmt;

/// Shows the error and, after colons, its causes. A cause that the text already ends with, because the
/// error above quotes it, is not said twice.
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|cause| &**cause as _)
        }
    }

    fn failed(text: &'static str, cause: Option<Failed>) -> Failed {
        Failed(text, cause.map(Box::new))
    }

    #[test]
    fn each_cause_is_said_once() {
        let refused = failed("connection refused", None);
        let quoted = failed("cannot connect: connection refused", Some(refused));
        let whole = failed("Consul does not answer", Some(quoted));
        let said = "Consul does not answer: cannot connect: connection refused";
        assert_eq!(Chain(&whole).to_string(), said);
        assert_eq!(Chain(&failed("alone", None)).to_string(), "alone");
    }
}
