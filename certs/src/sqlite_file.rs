//! Writes a small SQLite database: tables that are read whole, each within one page.
//!
//! The format is that of <https://www.sqlite.org/fileformat2.html>, in which a table is a tree of pages; one that
//! is a single leaf needs no more than this, and a library that reads and changes any database is a thousand times
//! as much. Nothing is read here.

/// The length of a page, in octets; what SQLite takes by itself.
const PAGE: usize = 4096;
/// The header of the file, which the first page begins with.
const FILE_HEADER: usize = 100;
/// The kind of a page that is a leaf of a table.
const TABLE_LEAF: u8 = 13;

/// What stands in one column of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Null,
    /// A number up to 127.
    Number(u8),
    Text(&'a str),
    Blob(&'a [u8]),
}

/// A table without any constraint.
pub(crate) struct Table<'a> {
    pub(crate) name: &'static str,
    pub(crate) columns: &'a [&'static str],
    pub(crate) rows: Vec<Vec<Value<'a>>>,
}

/// A database of these tables; `None` where one of them, or the list of them, is longer than a page.
pub(crate) fn sqlite_file(tables: &[Table<'_>]) -> Option<Vec<u8>> {
    let statements: Vec<_> = tables
        .iter()
        .map(|table| format!("CREATE TABLE {} ({})", table.name, table.columns.join(", ")))
        .collect();
    let schema = tables.iter().zip(&statements).zip(2..).map(|((table, statement), page)| {
        let name = Value::Text(table.name);
        vec![Value::Text("table"), name, name, Value::Number(page), Value::Text(statement)]
    });
    let pages = u32::try_from(tables.len()).ok()?.checked_add(1)?;
    let mut file = leaf(header(pages), &schema.collect::<Vec<_>>())?;
    for table in tables {
        file.extend(leaf(Vec::new(), &table.rows)?);
    }
    Some(file)
}

/// Section 1.3, "The Database Header".
fn header(pages: u32) -> Vec<u8> {
    let mut header = b"SQLite format 3\0".to_vec();
    // Length of a page; read and written by its first version, with a rollback journal; nothing left free in
    // pages; the three fractions, which are fixed.
    header.extend([0x10, 0, 1, 1, 0, 64, 32, 32]);
    // Changes; pages; no list of free pages; version of the schema, and its format; size of a cache; no
    // auto-vacuum; UTF-8; the user's version; no incremental vacuum; whose file it is.
    for number in [1, pages, 0, 0, 1, 4, 0, 0, 1, 0, 0, 0] {
        header.extend(u32::to_be_bytes(number));
    }
    header.extend([0; 20]);
    // The change for which the number of pages is right, and the version of SQLite that made it.
    header.extend(1_u32.to_be_bytes());
    header.extend(3_040_000_u32.to_be_bytes());
    debug_assert_eq!(header.len(), FILE_HEADER);
    header
}

/// Section 1.6, "B-tree Pages": a leaf of a table, after what the page begins with.
fn leaf(mut page: Vec<u8>, rows: &[Vec<Value<'_>>]) -> Option<Vec<u8>> {
    let mut cells = Vec::new();
    let mut begins = Vec::new();
    let mut end = PAGE;
    for (number, row) in (1_u64..).zip(rows) {
        let record = record(row);
        let cell = [variable(record.len() as u64), variable(number), record].concat();
        end = end.checked_sub(cell.len())?;
        begins.push(u16::try_from(end).ok()?);
        cells.push(cell);
    }
    page.extend([TABLE_LEAF, 0, 0]);
    page.extend(u16::try_from(rows.len()).ok()?.to_be_bytes());
    page.extend(u16::try_from(end).ok()?.to_be_bytes());
    page.push(0);
    page.extend(begins.into_iter().flat_map(u16::to_be_bytes));
    let free = end.checked_sub(page.len())?;
    page.extend(std::iter::repeat_n(0, free));
    // They fill the page from its end.
    page.extend(cells.into_iter().rev().flatten());
    Some(page)
}

/// Section 2.1, "Record Format".
fn record(row: &[Value<'_>]) -> Vec<u8> {
    let (mut kinds, mut content) = (Vec::new(), Vec::new());
    for value in row {
        let (kind, bytes): (u64, &[u8]) = match value {
            Value::Null => (0, &[]),
            Value::Number(number) => (1, std::slice::from_ref(number)),
            Value::Blob(bytes) => (12 + 2 * bytes.len() as u64, bytes),
            Value::Text(text) => (13 + 2 * text.len() as u64, text.as_bytes()),
        };
        kinds.extend(variable(kind));
        content.extend_from_slice(bytes);
    }
    // Its length is part of what it is the length of.
    let mut length = kinds.len() as u64 + 1;
    length += u64::from(length > 0x7f);
    [variable(length), kinds, content].concat()
}

/// A number in groups of seven bits, the last of which is marked by a zero bit before it.
fn variable(mut number: u64) -> Vec<u8> {
    let mut groups = vec![(number & 0x7f) as u8];
    while number > 0x7f {
        number >>= 7;
        groups.push((number & 0x7f) as u8 | 0x80);
    }
    groups.reverse();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lays_out_a_table_of_one_row() {
        let row = vec![Value::Number(7), Value::Null, Value::Blob(b"\x01\x02")];
        let table = Table { name: "t", columns: &["a", "b", "c"], rows: vec![row] };
        let file = sqlite_file(&[table]).unwrap();
        assert_eq!(file.len(), 2 * PAGE);
        let statement = "CREATE TABLE t (a, b, c)";
        assert!(file[..PAGE].ends_with(&[b"tablett\x02", statement.as_bytes()].concat()));
        // One cell: 7 octets, the first row, three kinds of columns, and what is in them.
        assert!(file.ends_with(b"\0\x07\x01\x04\x01\0\x10\x07\x01\x02"));
        assert_eq!(&file[PAGE..PAGE + 10], b"\x0d\0\0\0\x01\x0f\xf7\0\x0f\xf7");
    }

    #[test]
    fn numbers_have_as_many_groups_as_they_need() {
        assert_eq!(variable(0), [0]);
        assert_eq!(variable(0x7f), [0x7f]);
        assert_eq!(variable(0x80), [0x81, 0]);
        assert_eq!(variable(0x4000), [0x81, 0x80, 0]);
    }

    #[test]
    fn what_does_not_fit_a_page_is_not_written() {
        let long = vec![0; PAGE];
        let table = |bytes| Table { name: "t", columns: &["a"], rows: vec![vec![Value::Blob(bytes)]] };
        assert!(sqlite_file(&[table(&long)]).is_none());
        assert!(sqlite_file(&[table(&long[..PAGE - 20])]).is_some());
        let many = (0..2000).map(|_| vec![Value::Null]).collect();
        assert!(sqlite_file(&[Table { name: "t", columns: &["a"], rows: many }]).is_none());
    }
}
