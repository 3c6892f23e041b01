use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|one| one.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

/// How large the lists of these blocks are, and the table behind each, however the blocks are cut.
fn sizes(all: &[&str]) -> Vec<(usize, usize)> {
    let whole = sizes_in_pieces(all, usize::MAX);
    for size in 1..40 {
        assert_eq!(sizes_in_pieces(all, size), whole, "in pieces of {size}");
    }
    whole
}

fn sizes_in_pieces(all: &[&str], size: usize) -> Vec<(usize, usize)> {
    let mut blocks = FieldBlocks::default();
    let mut after = |block: &&str| {
        bytes(block).chunks(size).for_each(|piece| blocks.follow(piece).unwrap());
        (blocks.end().unwrap(), blocks.table_bytes)
    };
    all.iter().map(&mut after).collect()
}

fn is_decodable(block: &[u8]) -> bool {
    let mut blocks = FieldBlocks::default();
    blocks.follow(block).and_then(|()| blocks.end()).is_ok()
}

#[test]
fn tables_are_as_large_as_in_the_examples_of_the_rfc() {
    // Appendix C.3, requests.
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    // Appendix C.4, the same in Huffman code.
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    // `:method: GET`, `:scheme: http`, `:path: /`, `:authority: www.example.com` and so on.
    let expected = [(42 + 43 + 38 + 57, 57), (42 + 43 + 38 + 57 + 53, 110), (42 + 44 + 48 + 57 + 54, 164)];
    assert_eq!(sizes(&plain), expected);
    assert_eq!(sizes(&huffman), expected);
    // Appendix C.6, answers, behind the size that it assumes: fields leave the table.
    let answers = [
        "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d \
         d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 \
         3d50 07",
    ];
    assert_eq!(sizes(&answers).into_iter().map(|(_, table)| table).collect::<Vec<_>>(), [222, 222, 215]);
}

#[test]
fn what_has_no_meaning_is_found() {
    let literal = |text: &[u8]| [&[0, 1, b'a', 0x80 | u8::try_from(text.len()).unwrap()], text].concat();
    for (what, block) in [
        ("index 0", vec![0x80]),
        ("an empty table", vec![0xbe]),
        ("a name of an empty table", vec![0x7e, 1, b'a']),
        ("an integer without an end", vec![0xff, 0x80, 0x80, 0x80, 0x80, 0]),
        ("an integer that is cut", vec![0xff, 0x80]),
        ("a name alone", vec![0, 1, b'a']),
        ("a text that is cut", vec![0, 1, b'a', 2, b'b']),
        ("a size behind a field", vec![0x82, 0x20]),
        ("a size that is too large", vec![0x3f, 0xe2, 0x1f]),
        ("a field of a table without room", vec![0x20, 0x40, 1, b'a', 1, b'b', 0xbe]),
        ("the code that ends texts", literal(&[0xff, 0xff, 0xff, 0xff])),
        ("a text that is filled up with zeros", literal(&[0x18])),
        ("a text that is filled up by a byte", literal(&[0x1f, 0xff])),
    ] {
        assert!(!is_decodable(&block), "{what}");
    }
    for (what, block) in [
        ("nothing", vec![]),
        ("the last field of the static table", vec![0x80 | 61]),
        ("an integer as long as may be", vec![0x0f, 0xae, 0x80, 0x80, 0x00, 0]),
        ("the largest size", vec![0x3f, 0xe1, 0x1f]),
        ("two sizes", vec![0x20, 0x3f, 0xe1, 0x1f, 0x82]),
        ("a field of the table", vec![0x40, 1, b'a', 1, b'b', 0xbe]),
        ("a text that is filled up", literal(&[0x1f])),
        ("no texts", vec![0, 0, 0]),
    ] {
        assert!(is_decodable(&block), "{what}");
    }
}

#[test]
fn fields_leave_the_table_when_it_is_full() {
    // 34 bytes each, of which 120 fit.
    let mut blocks = FieldBlocks::default();
    for _ in 0..200 {
        blocks.follow(&[0x40, 1, b'a', 1, b'b']).unwrap();
    }
    assert_eq!((blocks.table.len(), blocks.table_bytes), (120, 4080));
    // The oldest is at 61 + 120.
    blocks.follow(&[0xff, 181 - 127]).unwrap();
    assert_eq!(blocks.follow(&[0xff, 182 - 127]), Err(Undecodable));
    // One that is larger than the table empties it.
    let mut blocks = FieldBlocks::default();
    blocks.follow(&[0x40, 1, b'a', 1, b'b', 0x40, 1, b'a', 0x7f, 0x80, 0x20]).unwrap();
    blocks.follow(&vec![b'x'; 0x7f + 0x1000]).unwrap();
    assert_eq!((blocks.step, blocks.table.len(), blocks.table_bytes), (Step::Field, 0, 0));
}
