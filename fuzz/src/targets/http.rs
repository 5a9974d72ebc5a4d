//! Responses of an endpoint, from the status line on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use gr2::rerank::{HttpConfig, HttpTeacher, Question, Response, Teacher, TeacherRequest};
use gr2::text::Message;

use crate::{SLOW, Target, Verdict};

/// Status, headers and body of a response. The body's length is put before it unless the headers speak of it.
pub const RESPONSE: Target = Target {
    name: "http_response",
    seeds: || {
        let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
        let bodies = [
            r#"{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"{\"explanation\":\"a\"}","reasoning_content":"b","refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#,
            r#"{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},"finish_reason":"length"}],"usage":null}"#,
            r#"{"choices":[{"message":{"content":null,"tool_calls":[]},"finish_reason":"content_filter"}],"usage":{"prompt_tokens":1.0,"completion_tokens":null}}"#,
            r#"{"error":{"message":"context length exceeded","type":"invalid_request_error","code":400}}"#,
            r#"{"choices":[]}"#,
            "<html><body>502 Bad Gateway</body></html>",
        ];
        let mut seeds: Vec<Vec<u8>> = bodies.iter().map(|body| format!("{ok}{body}").into_bytes()).collect();
        seeds.push(
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nslow down".to_vec(),
        );
        seeds.push(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1.5\r\n\r\n{\"error\":\"loading\"}".to_vec());
        seeds.push(b"HTTP/1.1 400 Bad Request\r\n\r\n{\"error\":{\"code\":\"content_filter\"}}".to_vec());
        seeds.push(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"ch\r\nd\r\noices\":null}  \r\n0\r\n\r\n"
                .to_vec(),
        );
        seeds
    },
    slow: SLOW,
    words: &[
        "choices",
        "message",
        "content",
        "reasoning_content",
        "finish_reason",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "error",
        "text",
        "type",
        "stop",
        "length",
        "content_filter",
        "Retry-After: ",
        "200",
        "400",
        "401",
        "404",
        "408",
        "429",
        "500",
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Location: http://[",
        "null",
        "Content-Encoding: gzip",
        "HTTP/1.0",
        "100 Continue",
        "301",
        "\r\n\r\n",
        "Retry-After: 99999999999999999999",
    ],
    reader: || {
        let server = Arc::new(Mutex::new(vec![]));
        let address = serve(server.clone());
        let config = HttpConfig {
            base_url: format!("http://{address}/v1"),
            model: "m".into(),
            retries: 0,
            timeout: 5.0,
            parallel: 1,
            ..HttpConfig::default()
        };
        let teacher = HttpTeacher::new(config).expect("a configuration");
        Box::new(move |input| {
            *server.lock().expect("the server goes on") = input.to_vec();
            let request = TeacherRequest {
                slate: 0,
                question: Question { user: 0, history: &[0], candidates: &[1, 2] },
                shown: None,
                messages: vec![Message::user("rank")],
            };
            match teacher.ask(&request, 0) {
                Ok(Response::Answered(reply)) => Verdict::Accepted(reply.text.len() as u64),
                Ok(other) => Verdict::Refused(format!("{other:?}")),
                Err(error) => Verdict::Refused(error.to_string().replace(&address, "")),
            }
        })
    },
};

/// Answers every request on an address of this machine with what it is given, one connection at a time.
fn serve(response: Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address of this machine");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let _ = answer(connection, &response);
        }
    });
    address
}

/// Reads requests and writes responses until either end closes the connection. It is kept open only where nothing of the
/// response can be taken for a part of the next one.
fn answer(connection: TcpStream, response: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let given = response.lock().map(|given| given.clone()).unwrap_or_default();
        let end = given.windows(4).position(|w| w == b"\r\n\r\n");
        match end {
            Some(end) if plain(&given[..end]) => {
                let (head, body) = (&given[..end], &given[end + 4..]);
                let length = format!("\r\nContent-Length: {}\r\n\r\n", body.len());
                writer.write_all(&[head, length.as_bytes(), body].concat())?;
            }
            _ => {
                writer.write_all(&given)?;
                return Ok(());
            }
        }
    }
}

/// Whether a status line and headers end where they seem to, and say nothing of the length of what follows.
fn plain(head: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(head) else { return false };
    let mut lines = text.split("\r\n");
    let status = lines.next().is_some_and(|line| line == "HTTP/1.1 200 OK");
    let name = |line: &str| line.split_once(':').map(|(name, _)| name.to_ascii_lowercase());
    status
        && !text.replace("\r\n", "").contains(['\r', '\n'])
        && lines
            .all(|line| name(line).is_some_and(|name| matches!(&name[..], "content-type" | "retry-after" | "server")))
}
