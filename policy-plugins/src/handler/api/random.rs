//! The time and chance, both the same in every run of one request.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rhai::NativeCallContext;

use super::{Registrar, entry};
use crate::handler::failure::{Fallible, thrown};
use crate::handler::run::Run;
use crate::handler::value::Blob;

/// The most random bytes of one call.
const BYTES_MAX: i64 = 1024;

pub(super) fn register(api: &mut Registrar<'_>) {
    api.section("Time and chance");
    api.function(
        entry(
            "now()",
            "When the handler began, in milliseconds since 1970; the same in all of the call",
            "let seconds = now() / 1000;",
        ),
        |context: NativeCallContext<'_>| -> Fallible<i64> {
            let since = since_epoch(Run::of(&context)?.now());
            Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
        },
    );
    api.function(
        entry(
            "now_text()",
            "The same in RFC 3339, such as `2026-11-21T00:41:25.405Z`",
            "let time = now_text();",
        ),
        |context: NativeCallContext<'_>| -> Fallible<String> { Ok(rfc3339(Run::of(&context)?.now())) },
    );
    api.function(
        entry("random_int(from, to)", "A random number, both ends included", "let dice = random_int(1, 6);"),
        random_int,
    );
    api.function(
        entry("random_bytes(count)", "A blob of random bytes, at most 1024", "let nonce = random_bytes(16);"),
        |context: NativeCallContext<'_>, count: i64| -> Fallible<Blob> {
            let length = usize::try_from(count)
                .ok()
                .filter(|_| count <= BYTES_MAX)
                .ok_or_else(|| thrown(format!("0 to {BYTES_MAX} random bytes at a time")))?;
            random(&context, length).map(Blob)
        },
    );
    api.function(
        entry(
            "uuid()",
            "A random UUID (RFC 9562, version 4)",
            "request.set_header(\"idempotency-key\", uuid());",
        ),
        uuid,
    );
}

fn random(context: &NativeCallContext<'_>, length: usize) -> Fallible<Bytes> {
    Run::of(context)?.random(context.call_position(), length)
}

fn random_int(context: NativeCallContext<'_>, from: i64, to: i64) -> Fallible<i64> {
    if from > to {
        return Err(thrown("random_int(from, to): from is greater than to"));
    }
    let bytes = random(&context, 16)?;
    let drawn = bytes.iter().fold(0_u128, |number, byte| (number << 8) | u128::from(*byte));
    // 128 random bits over a range of at most 2^64: no number is more than 2^-64 likelier.
    let range = u128::from(to.abs_diff(from)) + 1;
    let offset = u64::try_from(drawn % range).unwrap_or(0);
    Ok(from.wrapping_add_unsigned(offset))
}

fn uuid(context: NativeCallContext<'_>) -> Fallible<String> {
    let bytes = random(&context, 16)?;
    let text = bytes
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            let byte = match index {
                6 => byte & 0x0f | 0x40,
                8 => byte & 0x3f | 0x80,
                _ => *byte,
            };
            let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            format!("{dash}{byte:02x}")
        })
        .collect();
    Ok(text)
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time in UTC with milliseconds. Dates after Howard Hinnant's `civil_from_days`.
fn rfc3339(time: SystemTime) -> String {
    let since = since_epoch(time);
    let seconds = since.as_secs();
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (1_795_221_685_405, "2026-11-21T00:41:25.405Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ];
        for (milliseconds, text) in table {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(milliseconds)), text);
        }
    }
}
