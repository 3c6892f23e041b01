//! Text of the document that differs from instance to instance: `{container_id}` and `{instance_id}`.

/// A stretch of such a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stretch<'text> {
    Literal(&'text str),
    ContainerId,
    InstanceId,
}

/// Splits a text at its holes; `None` where braces stand for anything else.
pub(crate) fn stretches(text: &str) -> Option<Vec<Stretch<'_>>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (hole, after) = after.split_once('}')?;
        if before.contains('}') {
            return None;
        }
        if !before.is_empty() {
            found.push(Stretch::Literal(before));
        }
        found.push(match hole {
            "container_id" => Stretch::ContainerId,
            "instance_id" => Stretch::InstanceId,
            _ => return None,
        });
        rest = after;
    }
    if rest.contains('}') {
        return None;
    }
    if !rest.is_empty() {
        found.push(Stretch::Literal(rest));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_holes_are_known() {
        use Stretch::{ContainerId, InstanceId, Literal};
        let table: [(&str, &[Stretch<'_>]); 4] = [
            ("", &[]),
            ("plain", &[Literal("plain")]),
            ("A_{container_id}", &[Literal("A_"), ContainerId]),
            ("{instance_id}/{container_id}/x", &[InstanceId, Literal("/"), ContainerId, Literal("/x")]),
        ];
        for (text, expected) in table {
            assert_eq!(stretches(text).unwrap(), expected, "{text}");
        }
        for text in [
            "{",
            "}",
            "{}",
            "{id}",
            "a}b{container_id}",
            "{container_id",
            "{{container_id}}",
            "{container_id}}",
        ] {
            assert_eq!(stretches(text), None, "{text}");
        }
    }
}
