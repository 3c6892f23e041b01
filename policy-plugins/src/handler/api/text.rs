//! Rhai's own functions on text that would make more than fits before anybody looks.

use rhai::{ImmutableString, NativeCallContext};

use super::{Registrar, entry};
use crate::handler::failure::{Fallible, thrown};

pub(super) fn register(api: &mut Registrar<'_>) {
    api.section("Text");
    api.function(
        entry(
            "text.replace(find, put)",
            "Replaces every occurrence, in the variable itself",
            "let text = \"a-b\"; text.replace(\"-\", \"+\");",
        ),
        |context: NativeCallContext<'_>, text: &mut ImmutableString, find: &str, put: &str| {
            replace(&context, text, find, put)
        },
    );
    api.also(
        "replace",
        |context: NativeCallContext<'_>, text: &mut ImmutableString, find: char, put: char| {
            replace(&context, text, &find.to_string(), &put.to_string())
        },
    );
    api.also(
        "replace",
        |context: NativeCallContext<'_>, text: &mut ImmutableString, find: &str, put: char| {
            replace(&context, text, find, &put.to_string())
        },
    );
    api.also(
        "replace",
        |context: NativeCallContext<'_>, text: &mut ImmutableString, find: char, put: &str| {
            replace(&context, text, &find.to_string(), put)
        },
    );
    api.describe(entry(
        "text.len, text.contains(part), text.starts_with(part), text.ends_with(part), text.split(at), \
         text.sub_string(start, length), text.to_lower(), text.to_upper(), text.trim(), part in text",
        "Rhai's own functions on text, arrays, maps and numbers are there too",
        "if request.path.starts_with(\"/v1/\") { return fetch(request); }",
    ));
}

fn replace(
    context: &NativeCallContext<'_>,
    text: &mut ImmutableString,
    find: &str,
    put: &str,
) -> Fallible<()> {
    if find.is_empty() {
        return Err(thrown("replace: there is nothing to find"));
    }
    let most = context.engine().max_string_size();
    let length = text.matches(find).count().saturating_mul(put.len());
    if length > most {
        return Err(thrown(format!(
            "replace: the result is longer than the {most} bytes of a text (string_bytes)"
        )));
    }
    *text = text.replace(find, put).into();
    Ok(())
}
