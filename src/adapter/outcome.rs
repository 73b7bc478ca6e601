//! The result of a tool call, as the model and the client see it.

use serde_json::Value;

/// How a call of a tool ended.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolOutcome {
    /// The tool answered with this result (`CallToolResult` of MCP).
    Result(Value),
    /// The MCP server answered with a JSON-RPC error, or the call was not sent.
    Protocol {
        /// The code of the error.
        code: i64,
        /// Its message.
        message: String,
    },
    /// The MCP server, or the gateway in front of it, answered with an HTTP error.
    Http {
        /// The status.
        status: u16,
        /// What went wrong.
        message: String,
    },
    /// The call was not run, and the client sees no item for it. The model reads this text.
    NotRun(&'static str),
}

/// A part of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text, or a placeholder for what no model can read.
    Text(String),
    /// An image that both vendors accept, in base64.
    Image {
        /// The media type.
        media_type: String,
        /// The bytes.
        data: String,
    },
    /// A PDF, in base64.
    Pdf {
        /// The name of the file.
        name: String,
        /// The bytes.
        data: String,
    },
    /// The text of a resource.
    TextDocument {
        /// The name of the file.
        name: String,
        /// The text.
        text: String,
    },
}

impl Part {
    /// The part as text. What is none becomes a placeholder, so nothing is dropped silently.
    pub fn as_text(&self) -> String {
        match self {
            Self::Text(text) | Self::TextDocument { text, .. } => text.clone(),
            Self::Image { media_type, .. } => format!("[image: {media_type}]"),
            Self::Pdf { name, .. } => format!("[document: {name}, application/pdf]"),
        }
    }
}

impl ToolOutcome {
    /// Whether the tool or the call failed.
    pub fn is_error(&self) -> bool {
        match self {
            Self::Result(result) => result["isError"] == true,
            Self::Protocol { .. } | Self::Http { .. } | Self::NotRun(_) => true,
        }
    }

    /// The parts of the result, or the message of the failure.
    pub fn parts(&self) -> Vec<Part> {
        match self {
            Self::Result(result) => parts_of(result),
            Self::Protocol { message, .. } | Self::Http { message, .. } => vec![Part::Text(message.clone())],
            Self::NotRun(message) => vec![Part::Text((*message).to_owned())],
        }
    }

    /// All parts as one text.
    pub fn text(&self) -> String {
        let texts: Vec<String> = self.parts().iter().map(Part::as_text).collect();
        texts.join("\n")
    }
}

fn parts_of(result: &Value) -> Vec<Part> {
    let content = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    if content.is_empty() {
        let structured = result.get("structuredContent").filter(|structured| !structured.is_null());
        return structured
            .map(|structured| Part::Text(structured.to_string()))
            .into_iter()
            .collect();
    }
    content.iter().map(part_of).collect()
}

fn part_of(block: &Value) -> Part {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let placeholder = |what: &str, media_type: &Value| Part::Text(format!("[{what}: {}]", media_type.as_str().unwrap_or("unknown type")));
    match block["type"].as_str() {
        Some("text") => Part::Text(text(&block["text"])),
        Some("image") => match block["mimeType"].as_str() {
            Some(media_type @ ("image/png" | "image/jpeg" | "image/gif" | "image/webp")) => Part::Image {
                media_type: media_type.to_owned(),
                data: text(&block["data"]),
            },
            _ => placeholder("image", &block["mimeType"]),
        },
        Some("audio") => placeholder("audio", &block["mimeType"]),
        Some("resource") => resource(&block["resource"]),
        Some("resource_link") => {
            let kind = block["mimeType"].as_str().unwrap_or("unknown type");
            Part::Text(format!("[resource link: {}, {kind}]", text(&block["uri"])))
        }
        kind => Part::Text(format!("[content of type {}]", kind.unwrap_or("unknown"))),
    }
}

fn resource(resource: &Value) -> Part {
    let uri = resource["uri"].as_str().unwrap_or("unknown");
    let name = uri.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(uri).to_owned();
    let kind = resource["mimeType"].as_str();
    match (resource["text"].as_str(), resource["blob"].as_str(), kind) {
        (Some(text), _, _) => Part::TextDocument {
            name,
            text: text.to_owned(),
        },
        (None, Some(data), Some("application/pdf")) => Part::Pdf {
            name,
            data: data.to_owned(),
        },
        (None, _, _) => Part::Text(format!("[resource: {uri}, {}]", kind.unwrap_or("unknown type"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_content_is_dropped_silently() {
        let result = |content: Value| ToolOutcome::Result(json!({"content": content}));
        let all = result(json!([
            {"type": "text", "text": "a"},
            {"type": "image", "mimeType": "image/png", "data": "AA=="},
            {"type": "image", "mimeType": "image/tiff", "data": "AA=="},
            {"type": "audio", "mimeType": "audio/wav", "data": "AA=="},
            {"type": "resource", "resource": {"uri": "file:///x/y.pdf", "mimeType": "application/pdf", "blob": "AA=="}},
            {"type": "resource", "resource": {"uri": "file:///x/y.txt", "text": "T"}},
            {"type": "resource", "resource": {"uri": "file:///x/y.bin", "mimeType": "application/zip", "blob": "AA=="}},
            {"type": "resource_link", "uri": "https://x/y", "mimeType": "text/html"},
            {"type": "hologram"},
        ]));
        assert_eq!(
            all.text(),
            "a\n[image: image/png]\n[image: image/tiff]\n[audio: audio/wav]\n[document: y.pdf, application/pdf]\nT\n\
             [resource: file:///x/y.bin, application/zip]\n[resource link: https://x/y, text/html]\n[content of type hologram]"
        );
        assert!(matches!(&all.parts()[1], Part::Image { .. }) && matches!(&all.parts()[4], Part::Pdf { .. }));
        let structured = ToolOutcome::Result(json!({"structuredContent": {"a": 1}, "content": []}));
        assert_eq!((structured.text().as_str(), structured.is_error()), ("{\"a\":1}", false));
        assert!(ToolOutcome::Result(json!({"isError": true, "content": []})).is_error());
    }
}
