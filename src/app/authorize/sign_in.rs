//! The login form: a user name and a password of this gateway.

use std::net::IpAddr;

use crate::app::audit_events;
use crate::app::authorize::Authorize;
use crate::app::authorize::login_session::BrowserCookies;
use crate::app::authorize::password::PasswordCheck;
use crate::app::authorize::results::{FlowPage, LoginOutcome};
use crate::app::authorize::sign_in_attempts::SignInAttempt;
use crate::app::error::Rejection;
use crate::app::flow_handle::{FLOW_NOT_FOUND, FlowHandle, flow_error};
use crate::base::ids::Digest;
use crate::base::secret::Secret;
use crate::base::{random, special_ip};
use crate::flow::authorize::ClientAuthorize;
use crate::flow::user::User;

/// The submitted login form.
#[derive(Debug)]
pub struct LoginForm<'a> {
    /// The flow.
    pub flow: &'a FlowHandle,
    /// The value of the form cookie.
    pub form: Option<&'a str>,
    /// The caller's address, for waiting times only.
    pub source: IpAddr,
    /// The cookies by which the browser is known.
    pub cookies: BrowserCookies<'a>,
    /// The user name.
    pub name: &'a str,
    /// The password.
    pub password: Secret,
}

impl Authorize {
    /// Checks the login form.
    ///
    /// # Errors
    /// If the flow does not wait for a login, or the store fails. A wrong password is no error.
    pub async fn sign_in(&self, login: LoginForm<'_>) -> Result<LoginOutcome, Rejection> {
        let LoginForm {
            flow,
            form,
            source,
            cookies,
            name,
            password,
        } = login;
        let FlowPage::SignIn(request) = self.page(flow, form).await? else {
            return Err(FLOW_NOT_FOUND);
        };
        let rate_key = special_ip::rate_limit_key(source).to_string();
        let config = self.core.config();
        let attempt = SignInAttempt {
            source: &rate_key,
            name,
            is_known_browser: self.is_known_browser(cookies, name).await,
        };
        match self.passwords.check(&config.configured.users, attempt, password).await {
            PasswordCheck::Right => {}
            result @ (PasswordCheck::Wrong | PasswordCheck::Wait { .. } | PasswordCheck::Busy { .. }) => {
                tracing::info!(%source, "sign-in refused");
                let is_known = config.configured.users.iter().any(|user| user.name == name);
                let reason = match result {
                    PasswordCheck::Wait { .. } => "too_many_attempts",
                    PasswordCheck::Busy { .. } => "too_many_at_once",
                    PasswordCheck::Right | PasswordCheck::Wrong => "wrong_password",
                };
                let refused = audit_events::sign_in_refused(flow.id(), is_known.then_some(name), reason);
                self.core.audit.record(refused);
                return Ok(LoginOutcome::No(request, result));
            }
        }
        let (now, new_form, user) = (self.core.clock.now(), random::token(), self.password_user(name).await);
        let step = |s: ClientAuthorize| s.signed_in(form, Digest::new(new_form.expose()), user.clone(), now);
        let transition = self.core.store.transition(flow, step).await.map_err(flow_error)?;
        self.pending_flows.remove(flow.id());
        tracing::info!(user = name, "signed in");
        self.core.audit.record(audit_events::signed_in(flow.id(), &user, "password"));
        Ok(LoginOutcome::Yes {
            flow: transition.handle,
            form: new_form,
            session: self.create_session(name).await,
            known_browser: self.mark_browser(name).await,
        })
    }

    /// Checks a password outside of a flow, with the waiting times of the login form.
    pub async fn check_password(&self, source: IpAddr, cookies: BrowserCookies<'_>, name: &str, password: Secret) -> PasswordCheck {
        let rate_key = special_ip::rate_limit_key(source).to_string();
        let attempt = SignInAttempt {
            source: &rate_key,
            name,
            is_known_browser: self.is_known_browser(cookies, name).await,
        };
        let config = self.core.config();
        let check = self.passwords.check(&config.configured.users, attempt, password).await;
        if check != PasswordCheck::Right {
            tracing::info!(%source, "sign-in to decide about tool calls refused");
        }
        check
    }

    /// The user of this name, bound to the password of now.
    pub(super) async fn password_user(&self, name: &str) -> User {
        let config = self.core.config();
        let hash = self.passwords.hash_of(&config.configured.users, name).await;
        User {
            password_epoch: hash.map(Digest::new),
            ..User::with_name(name)
        }
    }
}
