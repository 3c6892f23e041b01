//! What requests and responses have in common: headers and a body.

/// The methods of a message that is a `struct` around the gate's own handle.
macro_rules! message_methods {
    () => {
        /// The first value of a header; the name is the same in any case. Values have one character for
        /// each byte: one above 0x7f is the Latin-1 character of that number, both ways.
        #[must_use]
        pub fn header(&self, name: &str) -> Option<String> {
            self.0.header(name).into_iter().next()
        }

        /// Every value of a header, in order.
        #[must_use]
        pub fn header_all(&self, name: &str) -> Vec<String> {
            self.0.header(name)
        }

        /// All names, in lower case, and values, in order.
        #[must_use]
        pub fn headers(&self) -> Vec<(String, String)> {
            self.0.headers()
        }

        /// Puts these in place of all headers that a handler can write.
        ///
        /// # Errors
        /// A name or a value cannot be one, or there are too many.
        pub fn set_headers(&mut self, headers: &[(String, String)]) -> crate::Result<()> {
            self.0.set_headers(headers).map_err(crate::Error::from_host)
        }

        /// Puts one value in place of all of that name. Headers of the connection (host,
        /// content-length, transfer-encoding and the like) cannot be written.
        ///
        /// # Errors
        /// The name or the value cannot be one.
        pub fn set_header(&mut self, name: &str, value: impl AsRef<str>) -> crate::Result<()> {
            self.0.set_header(name, value.as_ref()).map_err(crate::Error::from_host)
        }

        /// Adds a value to those of that name.
        ///
        /// # Errors
        /// As [`Self::set_header`].
        pub fn add_header(&mut self, name: &str, value: impl AsRef<str>) -> crate::Result<()> {
            self.0.append_header(name, value.as_ref()).map_err(crate::Error::from_host)
        }

        /// Removes every value of a header.
        ///
        /// # Errors
        /// The name cannot be one, or is the connection's.
        pub fn remove_header(&mut self, name: &str) -> crate::Result<()> {
            self.0.delete_header(name).map_err(crate::Error::from_host)
        }

        /// Whether there is a body, or may be one.
        #[must_use]
        pub fn has_body(&self) -> bool {
            self.0.has_body()
        }

        /// Takes the body out, unread.
        pub fn take_body(&mut self) -> Option<crate::Body> {
            self.0.take_body().map(crate::Body::from_host)
        }

        /// Puts a body in place of the one that is there.
        pub fn set_body(&mut self, body: impl Into<crate::Body>) {
            self.0.set_body(Some(body.into().into_host()));
        }

        /// Puts a value as JSON in place of the body, and says so in `content-type`.
        ///
        /// # Errors
        /// The value cannot be written as JSON.
        #[cfg(feature = "json")]
        pub fn set_json(&mut self, value: &impl serde::Serialize) -> crate::Result<()> {
            let content = serde_json::to_vec(value)?;
            self.set_header("content-type", "application/json")?;
            self.set_body(content);
            Ok(())
        }

        /// The body, at most `limit` bytes, none where there is no body. It is still sent on.
        ///
        /// # Errors
        /// It is longer, or did not come.
        pub fn read_body(&mut self, limit: u32) -> crate::Result<Vec<u8>> {
            self.with_body(|body| body.read(limit))
        }

        /// As [`Self::read_body`], as text.
        ///
        /// # Errors
        /// As [`Self::read_body`]; or it is not UTF-8.
        pub fn read_text(&mut self, limit: u32) -> crate::Result<String> {
            Ok(String::from_utf8(self.read_body(limit)?)?)
        }

        /// As [`Self::read_body`], as the value that its JSON stands for.
        ///
        /// # Errors
        /// As [`Self::read_body`]; or it is no such JSON.
        #[cfg(feature = "json")]
        pub fn read_json<T: serde::de::DeserializeOwned>(&mut self, limit: u32) -> crate::Result<T> {
            Ok(serde_json::from_slice(&self.read_body(limit)?)?)
        }

        /// The first bytes of the body: `limit` of them, or all if it is shorter. It is still sent on,
        /// and streams.
        ///
        /// # Errors
        /// They did not come.
        pub fn peek_body(&mut self, limit: u32) -> crate::Result<Vec<u8>> {
            self.with_body(|body| body.peek(limit))
        }

        /// Puts the first bytes of the body, 65536 at most, into the log while it streams past.
        pub fn tap_body(&mut self, limit: u32) {
            self.0.tap_body(limit);
        }

        fn with_body(
            &mut self,
            read: impl FnOnce(&mut crate::Body) -> crate::Result<Vec<u8>>,
        ) -> crate::Result<Vec<u8>> {
            let Some(mut body) = self.take_body() else { return Ok(Vec::new()) };
            let bytes = read(&mut body);
            self.set_body(body);
            bytes
        }
    };
}

pub(crate) use message_methods;
