//! Parameters that more than one family of routes takes.

use super::api::IDEMPOTENCY_HEADER;
use super::route::{Form, Param, anything, number, reads};
use crate::types::limits::{
    HTTP_IDEMPOTENCY_LEN_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, UCXL_TEXT_MAX,
};
use crate::types::{ContentHash, MemberId};

/// Visible characters, and spaces between them.
pub const VISIBLE: &str = "^[!-~]([ -~]*[!-~])?$";

/// Why a header has other characters than `VISIBLE`.
pub fn visible(text: &str) -> Result<(), String> {
    match text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        true => Ok(()),
        false => Err("expected visible ASCII characters".to_owned()),
    }
}

/// The key of a write that may be repeated.
pub const IDEMPOTENCY_KEY: Param = Param::header(
    IDEMPOTENCY_HEADER,
    "Makes a repetition harmless: under one key a path does one thing once",
    Form::Text { min: 1, max: HTTP_IDEMPOTENCY_LEN_MAX, pattern: Some(VISIBLE), check: visible },
);

/// A content.
pub const HASH: Param = Param::path(
    "hash",
    "The 64 hexadecimal digits of a content's hash",
    Form::Text {
        min: 64,
        max: 64,
        pattern: Some("^[0-9a-fA-F]{64}$"),
        check: reads::<ContentHash>,
    },
)
.example("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");

/// How much of a list is wanted.
pub const LIMIT: Param = Param::query(
    "limit",
    "Rows of a page",
    Form::Number { min: 1, max: PAGE_ROWS_MAX as u64, default: Some(PAGE_ROWS_DEFAULT) },
);

/// Where a list goes on.
pub const CURSOR: Param = Param::query(
    "cursor",
    "Where to go on: `next_cursor` of the page before",
    Form::Text { min: 1, max: UCXL_TEXT_MAX, pattern: None, check: anything },
);

/// What a member id looks like. None gets as long as a u64 can.
pub const MEMBER_ID: Form = Form::Text {
    min: 1,
    max: 19,
    pattern: Some("^(0|[1-9][0-9]{0,18})$"),
    check: |text| member_id(text).map(drop),
};

/// A member id as a client wrote it, or why it is none.
pub fn member_id(text: &str) -> Result<MemberId, String> {
    let expected = "expected a member id, a whole number; `bzzz node list` shows the members";
    number(text).map(MemberId).ok_or_else(|| expected.to_owned())
}
