//! The vendor's events and bodies, as a [`Turn`] reads them.

use serde_json::json;

use crate::adapter::call::ToolCall;
use crate::adapter::json::{Raw, RawObject};
use crate::adapter::openai::ids::CallIds;
use crate::adapter::openai::turn::{OwnCall, Treatment, Turn, call_item, show_begin};

impl Turn {
    pub(super) fn read_event(&mut self, data: &str) {
        // What is no object is no event of this API.
        let Ok(event) = RawObject::parse(data.as_bytes()) else { return };
        match event.text("type").as_deref().unwrap_or_default() {
            "response.created" | "response.in_progress" | "response.queued" => self.lifecycle(event),
            kind @ ("response.completed" | "response.incomplete" | "response.failed") => {
                if let Some(response) = event.get("response").and_then(RawObject::from_raw) {
                    self.first.get_or_insert_with(|| response.clone());
                    self.round.terminal = Some((kind.to_owned(), response));
                }
            }
            "error" => {
                self.round.failed = true;
                self.prologue();
                self.output.send(event);
            }
            "response.output_item.added" => match (event.number("output_index"), event.get("item")) {
                (Some(index), Some(item)) => {
                    self.prologue();
                    let item = item.to_owned();
                    self.item_added(index, &item, Some(event));
                }
                _ => self.other(event),
            },
            "response.output_item.done" => match (event.number("output_index"), event.get("item")) {
                (Some(index), Some(item)) => {
                    self.prologue();
                    let item = item.to_owned();
                    self.item_done(index, &item);
                }
                _ => self.other(event),
            },
            "response.function_call_arguments.delta" => self.arguments(event, "response.mcp_call_arguments.delta"),
            "response.function_call_arguments.done" => self.arguments(event, "response.mcp_call_arguments.done"),
            _ => self.other(event),
        }
    }

    pub(super) fn read_whole(&mut self, body: &[u8]) {
        let Ok(response) = RawObject::parse(body) else { return };
        self.first.get_or_insert_with(|| response.clone());
        let kind = match response.text("status").as_deref() {
            Some("completed") => "response.completed",
            Some("incomplete") => "response.incomplete",
            _ => "response.failed",
        };
        self.prologue();
        self.round.terminal = Some((kind.to_owned(), response));
    }

    /// The client sees the beginning of one response, whatever number of rounds it has.
    fn lifecycle(&mut self, mut event: RawObject) {
        let Some(response) = event.get("response").and_then(RawObject::from_raw) else {
            return;
        };
        if self.plan.rounds.count() > 1 {
            return;
        }
        self.first.get_or_insert_with(|| response.clone());
        let mut shown = response;
        self.plan.echo.apply(&mut shown);
        event.set_raw("response", shown.to_raw());
        let begins = event.text("type").as_deref() == Some("response.in_progress");
        self.output.send(event);
        if begins {
            self.prologue();
        }
    }

    /// An event that the adapter does not know, or that is about an item of the vendor.
    fn other(&mut self, mut event: RawObject) {
        self.prologue();
        if let Some(index) = event.number("output_index") {
            match self.round.indexes.get(&index) {
                Some(own) => event.set("output_index", own),
                None if self.round.calls.contains_key(&index) => return,
                None => {}
            }
        }
        self.output.send(event);
    }

    fn item_added(&mut self, index: u64, item: &Raw, event: Option<RawObject>) {
        let Some(object) = RawObject::from_raw(item) else { return };
        let name = object.text("name").unwrap_or_default();
        let is_function = object.text("type").as_deref() == Some("function_call");
        let Some(tool) = self.plan.names.get(&name).filter(|_| is_function).cloned() else {
            self.round.has_client_call |= is_function || object.text("type").as_deref() == Some("custom_tool_call");
            let own = self.output.next_index();
            self.round.indexes.insert(index, own);
            if let Some(mut event) = event {
                event.set("output_index", own);
                self.output.send(event);
            }
            return;
        };
        let call = ToolCall {
            tool,
            arguments: String::new(),
            is_client_approved: false,
        };
        let treatment = self.treat(&call);
        let mut own = OwnCall {
            ids: CallIds {
                call_id: object.text("call_id").unwrap_or_default(),
                item_id: object.text("id").unwrap_or_default(),
                round: format!("{}{}", self.plan.seed, self.plan.rounds.count()),
            },
            call,
            treatment,
            approval: None,
            shown: None,
            outcome: None,
        };
        if matches!(treatment, Treatment::Run | Treatment::Stop) {
            let id = own.ids.to_item_id();
            let place = self.output.next_index();
            show_begin(&mut self.output, &own, &id, place);
            own.shown = Some((id, place));
        }
        self.round.calls.insert(index, own);
    }

    pub(super) fn item_done(&mut self, index: u64, item: &Raw) {
        if !self.round.indexes.contains_key(&index) && !self.round.calls.contains_key(&index) {
            let event = RawObject::from_value(&json!({"type": "response.output_item.added", "output_index": index}));
            let mut event = event;
            event.set_raw("item", item.clone());
            self.item_added(index, item, Some(event));
        }
        self.round.items.insert(index, item.clone());
        if let Some(own) = self.round.indexes.get(&index) {
            let mut event = RawObject::from_value(&json!({"type": "response.output_item.done", "output_index": own}));
            event.set_raw("item", item.clone());
            self.output.set_item(*own, item.clone());
            self.output.send(event);
            return;
        }
        let Some(call) = self.round.calls.get_mut(&index) else { return };
        call.call.arguments = RawObject::from_raw(item)
            .and_then(|item| item.text("arguments"))
            .unwrap_or_default();
        match call.treatment {
            Treatment::Ask => {
                let id = self.plan.echo.approvals.request_id(&call.ids, &call.call);
                call.approval = Some(id.clone());
                let shown = call_item(call, &id).approval_request();
                let place = self.output.next_index();
                call.shown = Some((id, place));
                self.output.added(place, &shown);
                self.output.done(place, &shown);
            }
            Treatment::Stop => {
                if let Some((id, place)) = call.shown.clone() {
                    let shown = call_item(call, &id).incomplete();
                    self.output.done(place, &shown);
                }
            }
            Treatment::Run | Treatment::Ignore => {}
        }
    }

    /// A part of a call's arguments.
    fn arguments(&mut self, mut event: RawObject, kind: &str) {
        let call = event.number("output_index").and_then(|index| self.round.calls.get(&index));
        let Some(call) = call else { return self.other(event) };
        let Some((id, place)) = call.shown.as_ref().filter(|_| call.treatment != Treatment::Ask) else {
            return;
        };
        event.set("type", kind);
        event.set("item_id", id);
        event.set("output_index", place);
        event.remove("name");
        self.output.send(event);
    }
}
