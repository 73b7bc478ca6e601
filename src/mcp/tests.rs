use proptest::prelude::*;
use serde_json::{Value, json};

use super::canonical_json::{digest, to_text};
use super::json::{JsonError, MAX_DEPTH, parse};
use super::jsonrpc::{INVALID_REQUEST, Message, MessageKind, PARSE_ERROR, Payload, RequestId};
use super::revision::{REVISIONS, Revision};
use super::sse::{SseError, SseEvent, SseParser, comment};
use super::tool::{ToolDefinition, call_arguments, names_digest};

fn parsed(text: &str) -> Value {
    parse(text.as_bytes()).expect(text)
}

#[test]
fn canonical_json_prints_numbers_and_sorts_names_as_rfc_8785_does() {
    let numbers = json!([
        1E30,
        4.50,
        333_333_333.333_333_3,
        2e-3,
        1e-27,
        -0.0,
        1e21,
        1e20,
        123e-8,
        9.5e-7,
        -1.5,
        10,
        100.25
    ]);
    let printed = "[1e+30,4.5,333333333.3333333,0.002,1e-27,0,1e+21,100000000000000000000,0.00000123,9.5e-7,-1.5,10,100.25]";
    assert_eq!(to_text(&numbers), printed);
    let names = ["1", "</script>", "\u{80}", "ö", "€", "😂", "\u{fb33}"];
    let object = Value::Object(names.iter().rev().map(|name| ((*name).to_owned(), Value::Null)).collect());
    let sorted: Vec<String> = names.iter().map(|name| format!("\"{name}\":null")).collect();
    assert_eq!(to_text(&object), format!("{{{}}}", sorted.join(",")));
    assert_eq!(
        to_text(&json!("\u{8}\t\n\u{c}\r\"\\/\u{1}\u{1f}\u{7f}ö")),
        "\"\\b\\t\\n\\f\\r\\\"\\\\/\\u0001\\u001f\u{7f}ö\""
    );
}

#[test]
fn digests_equal_those_of_an_independent_implementation() {
    let arguments = parsed(r#"{"title":"Größe","count":2,"labels":["b","a"]}"#);
    assert_eq!(
        digest(&arguments).to_hex(),
        "f4e88ec92ae235f635742a52b9b8196bb761f69b3fd094746a6bbedc215418fa"
    );
    let empty = digest(&call_arguments(Some(&json!({"name": "a"}))));
    assert_eq!(empty.to_hex(), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    let names = names_digest(["search_issues", "create_issue", "search_issues"]);
    assert_eq!(names.to_hex(), "6ff4554845f7b63f7f6e29f56bb800b5ae43c2fd77c17b469586e198573a923b");
    let tool = json!({
        "name": "create_issue", "title": null, "description": "Create an issue", "icons": [], "_meta": {"a": 1},
        "inputSchema": {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}},
        "annotations": {"readOnlyHint": false},
    });
    let tool = ToolDefinition::from_value(&tool).expect("a definition");
    assert_eq!(
        tool.digest().to_hex(),
        "b8b982b7566ae59b6071a510b9914cd400f05f222269e7188aa347e31d2b9400"
    );
    assert!(!tool.has_read_only_hint());
}

#[test]
fn json_that_two_readers_could_understand_differently_is_refused() {
    assert_eq!(parse(br#"{"a":{"b":1,"b":1}}"#), Err(JsonError::DuplicateKey("b".into())));
    assert_eq!(parse(br#"{"a":1,"\u0061":2}"#), Err(JsonError::DuplicateKey("a".into())));
    for lone in [r#""\ud83d""#, r#""\ude02""#, r#""\ud83d\ud83d""#, r#""\ud83dx""#] {
        assert!(matches!(parse(lone.as_bytes()), Err(JsonError::LoneSurrogate(_))), "{lone}");
    }
    assert_eq!(parsed(r#""\ud83d\ude02""#), json!("😂"));
    for number in [
        "9007199254740992",
        "-9007199254740992",
        "9007199254740993.0",
        "1e400",
        "-1e400",
        "1e20",
        "99999999999999999999999",
    ] {
        assert!(matches!(parse(number.as_bytes()), Err(JsonError::NumberOutOfRange(_))), "{number}");
    }
    for number in ["9007199254740991", "-9007199254740991", "1E30", "0.1", "-0", "1e-400"] {
        assert!(parse(number.as_bytes()).is_ok(), "{number}");
    }
    for invalid in [
        "",
        "NaN",
        "Infinity",
        "01",
        "1.",
        ".5",
        "+1",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "\"\t\"",
        "\"\\x\"",
        "1 2",
        "\u{feff}1",
    ] {
        assert!(matches!(parse(invalid.as_bytes()), Err(JsonError::Syntax(_))), "{invalid}");
    }
    assert_eq!(parse(b"\"\xff\""), Err(JsonError::NotUtf8));
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep));
    assert_eq!(parse("[".repeat(1_000_000).as_bytes()), Err(JsonError::TooDeep));
}

#[test]
fn messages_are_requests_notifications_or_responses_and_nothing_between() {
    let kind = |text: &str| Message::parse(text.as_bytes()).map(|message| message.kind().clone());
    let id = RequestId::from(1);
    let method = "tools/call".to_owned();
    let request = kind(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#);
    assert_eq!(
        request,
        Ok(MessageKind::Request {
            id: id.clone(),
            method: method.clone()
        })
    );
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","method":"tools/call"}"#),
        Ok(MessageKind::Notification { method })
    );
    assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Ok(MessageKind::Result { id }));
    assert_eq!(
        kind(r#"{"jsonrpc":"2.0","id":null,"error":{}}"#),
        Ok(MessageKind::Error { id: None })
    );
    for invalid in [
        r#"{"id":1,"method":"a"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":[1],"method":"a"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":"b"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        "[]",
        "[1]",
        "1",
    ] {
        let error = Payload::parse(invalid.as_bytes()).expect_err(invalid);
        assert_eq!(error.code(), INVALID_REQUEST, "{invalid}");
    }
    assert_eq!(Payload::parse(b"{").expect_err("no JSON").code(), PARSE_ERROR);
    let batch = r#"[{"id":"b","jsonrpc":"2.0","method":"x","other":1},{"jsonrpc":"2.0","method":"y"}]"#;
    assert_eq!(
        Payload::parse(batch.as_bytes()).map(|payload| payload.to_text()),
        Ok(batch.to_owned())
    );
    let made = Message::error(None, -32_600, "no", Value::Null);
    assert_eq!(Message::parse(made.to_text().as_bytes()), Ok(made));
}

#[test]
fn revisions_are_ordered_and_a_newer_one_counts_as_later() {
    for revision in REVISIONS {
        assert_eq!(Revision::parse(revision.as_str()), Some(revision));
    }
    assert_eq!(Revision::parse("2027-01-01"), None);
    assert!(Revision::V2026_07_28.is_at_most("2027-01-01"));
    assert!(!Revision::V2026_07_28.is_at_most("2025-11-25"));
    assert!(!Revision::V2026_07_28.is_at_most("draft"));
    assert!(Revision::V2025_11_25.has_sessions() && !Revision::V2026_07_28.has_sessions());
}

#[test]
fn events_parse_across_pieces_line_ends_and_comments() {
    let stream =
        "\u{feff}: hello\r\n\r\nevent: a\rdata: 1\rdata:2\r\rid: 7\nretry: 30\ndata\n\nevent: none\n\ndata: {\"ö\":1}\r\n\r\ndata: cut";
    let mut parser = SseParser::new(1000);
    let mut events = Vec::new();
    for byte in stream.as_bytes() {
        events.extend(parser.push(&[*byte]).expect("a stream"));
    }
    assert_eq!(
        events,
        [
            SseEvent::named("a", "1\n2"),
            SseEvent {
                event: None,
                data: String::new(),
                id: Some("7".into()),
                retry: Some(30)
            },
            SseEvent {
                data: "{\"ö\":1}".into(),
                ..SseEvent::default()
            },
        ]
    );
    assert_eq!(SseParser::new(10).push(b"data: 123456"), Err(SseError::TooLong(10)));
    assert_eq!(SseParser::new(10).push(b"data: \xff\n"), Err(SseError::NotUtf8));
    assert_eq!(
        SseParser::new(10).push(comment("a\n\ndata: b").as_bytes()),
        Err(SseError::TooLong(10))
    );
    assert_eq!(SseParser::new(99).push(comment("a\n\ndata: b").as_bytes()), Ok(vec![]));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<f32>().prop_filter_map("finite and exact", |f| {
            let f = f64::from(f);
            (f.is_finite() && (f.abs() < 9e15 || f.abs() >= 1e21)).then(|| Value::from(f))
        }),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_text_is_a_fixed_point(value in any_json()) {
        let text = to_text(&value);
        let again = parse(text.as_bytes()).expect("canonical text parses");
        prop_assert_eq!(&to_text(&again), &text);
        prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        let plain = parse(value.to_string().as_bytes()).expect("other spellings parse");
        prop_assert_eq!(to_text(&plain), to_text(&value));
    }

    #[test]
    fn strict_parser_accepts_a_subset_of_json(bytes in prop::collection::vec(prop::sample::select(b"{}[]\":,\\u0d8e19-.E tn \xc3\xb6".to_vec()), 0..24)) {
        if let Ok(value) = parse(&bytes) {
            prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
            let text = to_text(&value);
            prop_assert_eq!(parse(text.as_bytes()).map(|again| to_text(&again)), Ok(text));
        }
    }

    #[test]
    fn written_events_parse_back_in_any_pieces(data in "[a-zö:\n ]{0,40}", event in "[a-z]{1,8}", cut in 0usize..80) {
        let written = SseEvent { id: Some("x".into()), retry: Some(5), ..SseEvent::named(&event, data) };
        let text = comment("alive") + &written.to_text();
        let cut = cut.min(text.len());
        let mut parser = SseParser::new(1000);
        let mut events = parser.push(&text.as_bytes()[..cut]).expect("a stream");
        events.extend(parser.push(&text.as_bytes()[cut..]).expect("a stream"));
        prop_assert_eq!(events, vec![written]);
    }
}
