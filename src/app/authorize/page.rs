//! The content of the page of a flow.

use crate::app::authorize::Authorize;
use crate::app::authorize::results::FlowPage;
use crate::app::error::Rejection;
use crate::app::flow_handle::{FLOW_NOT_FOUND, FlowHandle};
use crate::app::runtime_config::ActiveService;
use crate::flow::authorize::AuthorizationRequest;
use crate::flow::flow_record::FlowRecord;
use crate::flow::user::LoginMethod;

impl Authorize {
    /// The content of the page of a flow, for the browser with this form cookie.
    ///
    /// # Errors
    /// If there is no such flow, the cookie is not the flow's, or the store fails.
    pub async fn page(&self, flow: &FlowHandle, form: Option<&str>) -> Result<FlowPage, Rejection> {
        let now = self.core.clock.now();
        match self.core.store.read(flow).await?.ok_or(FLOW_NOT_FOUND)? {
            FlowRecord::ClientAuthorize(s) => self.login_page(s.belongs_to(form, now).map_err(Rejection::Flow)?.clone()),
            FlowRecord::GatewayLogin(s) => {
                let (request, user) = s.belongs_to(form, now).map_err(Rejection::Flow)?;
                Ok(FlowPage::Consent(request.clone(), user.clone()))
            }
            FlowRecord::IdpRedirect(_)
            | FlowRecord::IdpCallback(_)
            | FlowRecord::UpstreamRedirect(_)
            | FlowRecord::UpstreamCallback(_)
            | FlowRecord::CodeIssued(_)
            | FlowRecord::StatelessCode(_)
            | FlowRecord::CodeSpent(_)
            | FlowRecord::Closed(_) => Ok(FlowPage::MovedOn),
        }
    }

    /// `host[:port]` of the authorization server that the upstream named before, if it changed lately.
    pub fn previous_auth_server(&self, active: &ActiveService) -> Option<String> {
        active.previous_auth_server(self.core.clock.now())
    }

    fn login_page(&self, request: AuthorizationRequest) -> Result<FlowPage, Rejection> {
        let LoginMethod::Provider(name) = &request.way.by else {
            return Ok(FlowPage::SignIn(request));
        };
        let provider = self.core.config().idp(name).ok_or(FLOW_NOT_FOUND)?.idp.display_name().to_owned();
        Ok(FlowPage::ToProvider(request, provider))
    }
}
