//! Names what a policy is made of by its SHA-256.

use aws_lc_rs::digest::{self, Context, SHA256};

/// A SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest(Box<[u8]>);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(digest::digest(&SHA256, bytes).as_ref().into())
    }

    /// This and more, each part with its name. Nothing more leaves it as it is.
    pub(crate) fn and<'parts>(self, parts: impl IntoIterator<Item = (&'parts str, &'parts Self)>) -> Self {
        let mut parts = parts.into_iter().peekable();
        if parts.peek().is_none() {
            return self;
        }
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        for (name, part) in parts {
            context.update(&name.len().to_be_bytes());
            context.update(name.as_bytes());
            context.update(&part.0);
        }
        Self(context.finish().as_ref().into())
    }

    /// The first 12 hexadecimal digits.
    pub(crate) fn short(&self) -> Box<str> {
        self.0.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_everything_in_it() {
        let document = Digest::of(b"version = 1");
        assert_eq!(document.clone().and([]), document);
        let script = Digest::of(b"fn outbound(request, env, ctx) {}");
        let both = document.clone().and([("a.rhai", &script)]);
        assert_ne!(both, document);
        assert_ne!(both, document.clone().and([("b.rhai", &script)]));
        assert_ne!(both, document.and([("a.rhai", &Digest::of(b""))]));
        assert_eq!(both.short().len(), 12);
        assert_eq!(&*Digest::of(b"").short(), "e3b0c44298fc");
    }
}
