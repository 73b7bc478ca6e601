//! A request that the gateway serves itself, because something in it is of the gateway.

use http::request::Parts;
use http::{HeaderMap, Response};

use crate::adapter::access::AdapterContext;
use crate::adapter::dialect::Dialect;
use crate::adapter::loops::LoopGuard;
use crate::adapter::refusal::refusal;
use crate::adapter::runner::{Loop, LoopContext};
use crate::adapter::toolbox::Toolbox;
use crate::adapter::vendor::{Vendor, VendorTarget};
use crate::adapter::{anthropic, openai};
use crate::net::body::ResponseBody;

/// A request with something of the gateway, of which nothing has been done yet.
pub(super) enum OwnRequest {
    /// For OpenAI.
    OpenAi(Box<openai::prepare::ReadRequest>),
    /// For Anthropic, with its headers.
    Anthropic(Box<anthropic::request::ClientRequest>, HeaderMap),
}

/// What a request runs with.
pub(super) struct RunContext {
    /// What it is served with.
    pub(super) access: AdapterContext,
    /// Where and how requests go to the vendor.
    pub(super) target: VendorTarget,
    /// Counts it as running.
    pub(super) guard: LoopGuard,
}

impl OwnRequest {
    /// Reads a request. `None`: nothing in it is of the gateway. The error is the response to a wrong one.
    pub(super) fn read(
        context: &AdapterContext,
        vendor: Vendor,
        head: &Parts,
        body: &[u8],
    ) -> Result<Option<Self>, Box<Response<ResponseBody>>> {
        match vendor {
            Vendor::OpenAi => match openai::prepare::read(context, body) {
                Ok(read) => Ok(read.map(|read| Self::OpenAi(Box::new(read)))),
                Err(refused) => Err(Box::new(openai_refusal(&refused))),
            },
            Vendor::Anthropic => match anthropic::prepare::read(context, body) {
                Ok(read) => Ok(read.map(|read| Self::Anthropic(Box::new(read), head.headers.clone()))),
                Err(refused) => Err(Box::new(anthropic_refusal(&refused))),
            },
        }
    }

    /// The vendor.
    pub(super) fn vendor(&self) -> Vendor {
        match self {
            Self::OpenAi(_) => Vendor::OpenAi,
            Self::Anthropic(_, _) => Vendor::Anthropic,
        }
    }

    /// Opens the tools, and runs the request: to its end, or until the events of the response begin.
    pub(super) async fn respond(self, context: RunContext) -> Response<ResponseBody> {
        match self {
            Self::OpenAi(read) => {
                let request = read.client_request();
                let (is_stream, is_parallel) = (request.is_stream(), request.is_parallel());
                match read.open_tools(&context.access).await {
                    Ok((turn, toolbox)) => run(context, Vendor::OpenAi, turn, toolbox, is_parallel).respond(is_stream).await,
                    Err(refused) => openai_refusal(&refused),
                }
            }
            Self::Anthropic(request, headers) => {
                let (is_stream, is_parallel) = (request.is_stream(), request.is_parallel());
                match anthropic::prepare::open_tools(&context.access, *request, &headers).await {
                    Ok((turn, toolbox)) => run(context, Vendor::Anthropic, turn, toolbox, is_parallel).respond(is_stream).await,
                    Err(refused) => anthropic_refusal(&refused),
                }
            }
        }
    }
}

fn run<D: Dialect + 'static>(context: RunContext, vendor: Vendor, turn: D, toolbox: Toolbox, is_parallel: bool) -> Loop<D> {
    let RunContext { access, target, guard } = context;
    let loop_context = LoopContext {
        http: access.http.clone(),
        vendor,
        target,
        toolbox,
        tools: access.tools().clone(),
        caller: access.caller_key(),
        is_parallel,
        _guard: guard,
    };
    Loop::new(turn, loop_context)
}

fn openai_refusal(refused: &openai::prepare::Refused) -> Response<ResponseBody> {
    let (status, body) = openai::prepare::describe(refused);
    refusal(status, &body)
}

fn anthropic_refusal(refused: &anthropic::prepare::Refused) -> Response<ResponseBody> {
    let (status, body) = anthropic::prepare::describe(refused);
    refusal(status, &body)
}
