//! Names what a policy is made of by its SHA-256.

use aws_lc_rs::digest::{self, Context, SHA256};

/// A SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::made(digest::digest(&SHA256, bytes).as_ref())
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
        Self::made(context.finish().as_ref())
    }

    fn made(digest: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// In hexadecimal.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
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
