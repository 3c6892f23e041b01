//! A reader of HTTP/1 requests that takes nothing but what RFC 9112 lets be sent, for the far side of the gate: what
//! it reads, every other reader reads alike.

/// A request that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

/// Takes the first request off the front of `bytes`; `None` while it is not whole.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some((lines, head)) = lines(bytes)? else { return Ok(None) };
    let start = lines.first().ok_or("an empty line before a request")?;
    let start = std::str::from_utf8(start).map_err(|_| "a request line that is no text")?;
    let [method, target, version] = start.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("the request line {start:?}"));
    };
    if !is_token(method.as_bytes())
        || version != "HTTP/1.1"
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(format!("the request line {start:?}"));
    }
    if !(target.starts_with('/') || target == "*") {
        return Err(format!("the target {target:?}"));
    }
    let fields = lines[1..].iter().map(|line| field(line)).collect::<Result<Vec<_>, _>>()?;
    let of = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(one, _)| one == name).map(|(_, value)| value.as_slice()).collect()
    };
    if of("host").len() != 1 {
        return Err(format!("{} hosts", of("host").len()));
    }
    let rest = &bytes[head..];
    let (body, trailers, length) = match (&of("transfer-encoding")[..], &of("content-length")[..]) {
        ([], []) => (Vec::new(), Vec::new(), 0),
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
            let Some(body) = rest.get(..length) else { return Ok(None) };
            (body.to_vec(), Vec::new(), length)
        }
        ([b"chunked"], []) => match chunks(rest)? {
            Some(whole) => whole,
            None => return Ok(None),
        },
        other => return Err(format!("the framing {other:?}")),
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    Ok(Some((Request { method, target, fields, body, trailers }, head + length)))
}

/// The lines up to an empty one, and how long they are with it.
type Lines<'bytes> = (Vec<&'bytes [u8]>, usize);

fn lines(bytes: &[u8]) -> Result<Option<Lines<'_>>, String> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(end) = bytes[at..].iter().position(|&byte| byte == b'\r' || byte == b'\n') {
        match bytes[at + end..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] => break,
            _ => return Err(format!("a bare line end in {:?}", String::from_utf8_lossy(&bytes[at..]))),
        }
        let line = &bytes[at..at + end];
        at += end + 2;
        if line.is_empty() {
            return Ok(Some((found, at)));
        }
        found.push(line);
    }
    Ok(None)
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), String> {
    let fault = || format!("the field {:?}", String::from_utf8_lossy(line));
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(fault)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_text = value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    if !is_token(name) || !is_text {
        return Err(fault());
    }
    Ok((String::from_utf8_lossy(name).to_lowercase(), value.to_vec()))
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// A chunked body without extensions: its bytes, its trailers, and how long it is on the wire.
type Chunks = (Vec<u8>, Vec<(String, Vec<u8>)>, usize);

fn chunks(bytes: &[u8]) -> Result<Option<Chunks>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        match rest.get(digits..digits + 2) {
            None if rest.len() < 20 => return Ok(None),
            Some(b"\r\n") if digits > 0 => {}
            _ => return Err(format!("the chunk {:?}", String::from_utf8_lossy(rest))),
        }
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..digits]).unwrap(), 16).unwrap();
        at += digits + 2;
        if size == 0 {
            let Some((lines, length)) = lines(&bytes[at..])? else { return Ok(None) };
            let trailers = lines.into_iter().map(field).collect::<Result<_, _>>()?;
            return Ok(Some((body, trailers, at + length)));
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        let (data, end) = chunk.split_at(size);
        if end != b"\r\n" {
            return Err(format!("the end of the chunk {:?}", String::from_utf8_lossy(chunk)));
        }
        body.extend_from_slice(data);
        at += size + 2;
    }
}
