//! Enums that are written as one word out of a few.

/// Read from a word, whatever its case.
pub(crate) trait Word: Copy {
    /// The words as documented, without old spellings.
    const ALL: &'static [&'static str];

    /// The value that `text` stands for.
    fn from_word(text: &str) -> Option<Self>;
}

/// Declares an enum whose values are words. After `|` come other spellings that are read too:
/// YAML 1.1 makes a boolean of a bare `off`, so its users may have written `false` on purpose.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$doc:meta])* $variant:ident = $word:literal $(| $other:literal)*,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// All words.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word as written in the file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl $crate::words::Word for $name {
            const ALL: &'static [&'static str] = Self::WORDS;

            fn from_word(text: &str) -> Option<Self> {
                match text.to_ascii_lowercase().as_str() {
                    $($word $(| $other)* => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use words;
