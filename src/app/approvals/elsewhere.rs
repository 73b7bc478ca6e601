//! Records in the audit log what people decide elsewhere: by a command, or at another instance. Commands
//! have no audit log of their own.

use std::collections::BTreeMap;

use crate::app::approvals::Approvals;
use crate::app::approvals::recorded::ApprovedTools;
use crate::app::audit_events;
use crate::base::ids::Digest;
use crate::flow::approval::ApprovalRecord;
use crate::flow::pins::{PinsRecord, ToolPin};
use crate::store::{Change, Handle, StoreError};

impl Approvals {
    /// Reads which tools are approved, so that later approvals are known from earlier ones.
    pub(in crate::app) async fn load_approved_tools(&self) {
        for active in self.core.config().services().iter().filter(|active| active.service.tools.is_some()) {
            // Unreadable pins refuse every call, and the next approval is recorded.
            if let Ok(Some(record)) = self.core.store.read(&Handle::new(PinsRecord::id(&active.service.name))).await {
                self.recorded
                    .pins()
                    .insert(PinsRecord::id(&active.service.name), approved_tools(&record));
            }
        }
    }

    /// Records what a change says of decisions elsewhere.
    pub(in crate::app) async fn record_elsewhere(&self, change: &Change) {
        let recorded = match (change.of::<ApprovalRecord>(), change.of::<PinsRecord>()) {
            (Some(handle), _) => self.record_call(&handle).await,
            (None, Some(handle)) => self.record_pins(&handle).await,
            (None, None) => return,
        };
        if let Err(error) = recorded {
            tracing::warn!(%error, "a decision of a command could not be read for the audit log");
        }
    }

    async fn record_call(&self, handle: &Handle<ApprovalRecord>) -> Result<(), StoreError> {
        let id = handle.id();
        if self.recorded.has_call(id) {
            return Ok(());
        }
        let Some(record) = self.core.store.read(handle).await? else {
            return Ok(());
        };
        let Some(decision) = record.decision() else { return Ok(()) };
        let is_approved = !matches!(record, ApprovalRecord::Denied(_));
        self.recorded.note_call(id);
        let event = audit_events::call_decided(id, record.tool_call(), &decision.by, is_approved);
        self.core.audit.record(audit_events::elsewhere(event));
        Ok(())
    }

    async fn record_pins(&self, handle: &Handle<PinsRecord>) -> Result<(), StoreError> {
        let record = self.core.store.read(handle).await?;
        let mut known = self.recorded.pins();
        let Some(record) = record else {
            known.remove(&handle.id());
            let config = self.core.config();
            let mut services = config.services().iter().map(|active| active.service.name.as_str());
            if let Some(service) = services.find(|service| PinsRecord::id(service) == handle.id()) {
                self.core.audit.record(audit_events::elsewhere(audit_events::pins_reset(service)));
            }
            return Ok(());
        };
        let (service, approved) = (record.pins().service(), approved_tools(&record));
        let before = known.insert(handle.id(), approved.clone());
        // A reset removes the record, which not every store reports. The next list of the tools shows it.
        if before
            .as_ref()
            .is_some_and(|before| before.keys().any(|tool| !approved.contains_key(tool)))
        {
            self.core.audit.record(audit_events::elsewhere(audit_events::pins_reset(service)));
        }
        let is_new = |tool: &(&String, &(String, Digest))| before.as_ref().is_none_or(|before| before.get(tool.0) != Some(tool.1));
        let mut by_user: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (tool, (user, _)) in approved.iter().filter(is_new) {
            by_user.entry(user).or_default().push(tool);
        }
        for (user, tools) in by_user {
            let event = audit_events::pins_approved(service, user, &tools);
            self.core.audit.record(audit_events::elsewhere(event));
        }
        Ok(())
    }
}

fn approved_tools(record: &PinsRecord) -> ApprovedTools {
    let approved = |(tool, pin): (&String, &ToolPin)| {
        let (user, definition) = (pin.approved_by.as_ref()?, pin.pinned.as_ref()?);
        Some((tool.clone(), (user.clone(), definition.digest.clone())))
    };
    record.pins().tools().iter().filter_map(approved).collect()
}
