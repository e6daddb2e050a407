use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn feed(text: &str) -> FramingVerdict {
    Framer::default().feed(text.as_bytes())
}

fn refused(text: &str) -> Code {
    match feed(text) {
        FramingVerdict::Refuse { code, .. } => code,
        other => panic!("{text:?} gave {other:?}"),
    }
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /v1 HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{body}")
}

#[test]
fn valid_pipelined_requests_pass() {
    let sized = post("Content-Length: 5", "a\n\0\rb");
    let chunked = post("transfer-encoding: Chunked", "5\r\na\n\0\rb\r\n1a;x=\"y\"\r\nabcdefghijklmnopqrstuvwxyz\r\n000\r\nT: 1\r\n\r\n");
    let stream = [GET, &sized, &chunked, "\r\n", GET, "GET /x HTTP/1.0\r\n\r\n", &post("Content-Length: 0", ""), GET].concat();
    let mut framer = Framer::default();
    assert_eq!(framer.feed(stream.as_bytes()), FramingVerdict::Pass);
    assert!(framer.is_between_requests());
}

#[test]
fn a_split_stream_gives_the_same_verdict_as_a_whole_one() {
    let chunked = post("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n");
    let good = [GET, &post("Content-Length: 3", "abc"), &chunked, GET].concat();
    let bad = [good.as_str(), "GET / HTTP/1.1\nHost: a\n\n"].concat();
    for size in 1..=17 {
        for (stream, refuse) in [(&good, false), (&bad, true)] {
            let (mut framer, mut held, mut refused) = (Framer::default(), Vec::new(), false);
            for piece in stream.as_bytes().chunks(size) {
                held.extend_from_slice(piece);
                match framer.feed(&held) {
                    FramingVerdict::Pass => held.clear(),
                    FramingVerdict::Wait { from } => drop(held.drain(..from)),
                    FramingVerdict::Refuse { code: Code::BadRequest, .. } => {
                        refused = true;
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((refused, held.is_empty()), (refuse, !refuse), "pieces of {size}");
        }
    }
}

// row 16
#[test]
fn ambiguous_framing_is_refused() {
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -1",
        "Content-Length: 0x3",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Content-Length : 3",
        " Content-Length: 3",
        "X: 1\r\n folded",
        "X: 1\r\n\tfolded",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "no colon",
        ": no name",
        "na me: 1",
        "X: a\rb",
        "X: a\0b",
        "X: a\nY: b",
        "Host: b",
    ] {
        assert_eq!(refused(&post(headers, "")), Code::BadRequest, "{headers:?}");
    }
    for whole in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "G\0T / HTTP/1.1\r\n",
        "\n\nGET / HTTP/1.1\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        assert_eq!(refused(whole), Code::BadRequest, "{whole:?}");
    }
}

// row 16: also for a head behind others in the same packet
#[test]
fn a_smuggled_head_behind_a_valid_one_is_refused() {
    let bad = post("Content-Length: 3\r\nTransfer-Encoding: chunked", "");
    let stream = [GET, &post("Content-Length: 3", "abc"), &bad].concat();
    let from = stream.len() - bad.len();
    assert_eq!(feed(&stream), FramingVerdict::Refuse { from, code: Code::BadRequest });
}

// row 16
#[test]
fn an_invalid_chunk_breaks_the_connection() {
    for body in ["x\r\n", "\r\n", "3\nabc", "3\r\nabcd", "3\r\nabc\n", "-1\r\n", "fffffffffffffffff\r\n", "3 \r\nabc", "0\r\nT\n"] {
        let stream = post("Transfer-Encoding: chunked", body);
        assert!(matches!(feed(&stream), FramingVerdict::Broken { .. }), "{body:?}: {:?}", feed(&stream));
    }
}

// row 14
#[test]
fn long_targets_and_heads_are_refused_before_their_end() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length - 1));
    assert_eq!(feed(&target(MAX_TARGET)), FramingVerdict::Pass);
    assert_eq!(refused(&target(MAX_TARGET + 1)), Code::UriTooLong);
    assert_eq!(refused(&target(64 * 1024)[..MAX_TARGET * 2]), Code::UriTooLong);
    let head = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(length - 32));
    assert_eq!((feed(&head(MAX_HEAD)), head(MAX_HEAD).len()), (FramingVerdict::Pass, MAX_HEAD));
    assert_eq!(refused(&head(MAX_HEAD + 1)), Code::HeadersTooLarge);
    assert_eq!(refused(&head(1024 * 1024)[..MAX_HEAD + 1]), Code::HeadersTooLarge);
    assert_eq!(refused(&post(&"A: 1\r\n".repeat(101), "")), Code::HeadersTooLarge);
}

// row 4
#[test]
fn heads_that_are_not_utf8_are_refused() {
    let mut framer = Framer::default();
    let bad = [b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n".as_slice(), b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"];
    for head in bad {
        assert!(matches!(framer.feed(head), FramingVerdict::Refuse { code: Code::BadEncoding, .. }));
    }
    assert_eq!(refused("GET /é HTTP/1.1\r\nHost: a\r\n\r\n"), Code::BadEncoding);
    assert_eq!(feed("GET / HTTP/1.1\r\nHost: a\r\nX: é\r\n\r\n"), FramingVerdict::Pass);
}

// L1
#[test]
fn hosts_are_checked() {
    let with_host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for host in
        ["shop.example", "shop.example:8080", "shop.example:", "127.0.0.1:80", "[::1]", "[2001:db8::1]:443", "xn--9n2bp8q.kr", "a%20b", ""]
    {
        assert_eq!(feed(&with_host(host)), FramingVerdict::Pass, "{host}");
    }
    for host in [
        "a/b?c#@",
        "x, y",
        "x y",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        "::1",
        "a:99999999",
        "a:65536",
        "a:b",
        "a:-1",
        "user@a",
        "a%2",
        "a%zz",
        "é",
        "a\\b",
        "\"a\"",
    ] {
        assert_eq!(refused(&with_host(host)), Code::BadRequest, "{host}");
    }
}

// L1
#[test]
fn targets_are_paths_or_http_uris() {
    let with_target = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for target in ["/", "/v1/x?a=http://b", "http://a/", "HTTP://a:80/v1/x", "https://[::1]:443?x", "//a"] {
        assert_eq!(feed(&with_target(target)), FramingVerdict::Pass, "{target}");
    }
    for target in ["ftp://a/", "http://a:b@c/", "http://u@c/", "http:///x", "http://", "a:443", "*", "v1/x", "?x", "javascript:x"] {
        assert_eq!(refused(&with_target(target)), Code::BadRequest, "{target}");
    }
    assert_eq!(feed("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), FramingVerdict::Pass);
    assert_eq!(refused("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), Code::BadRequest);
}

// L13
#[test]
fn only_the_expectation_of_a_continue_is_met() {
    assert_eq!(feed(&post("Expect: 100-Continue", "")), FramingVerdict::Pass);
    for other in ["other", "", "100-continue, other", "100-continue=1"] {
        assert_eq!(refused(&post(&format!("Expect: {other}"), "")), Code::ExpectationFailed, "{other}");
    }
    let twice = post("Expect: 100-continue\r\nExpect: other", "");
    assert_eq!(refused(&twice), Code::ExpectationFailed);
}
