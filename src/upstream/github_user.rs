//! The user of GitHub's API, with the memberships that an allow list names.

use http::StatusCode;
use serde_json::Value;

use crate::base::url::ExactUrl;
use crate::net::http_client::HttpClient;
use crate::oauth::token_response::UpstreamAccessToken;
use crate::oauth::userinfo::UserInfo;
use crate::upstream::allow_list::{self, AllowList};
use crate::upstream::fetch::fetch;
use crate::upstream::oidc::{IdentitySource, IdpError, Provider, REQUEST_TIMEOUT, checked_body, with_token};

impl Provider {
    /// Calls GitHub's endpoints for the user, the e-mail addresses, and the memberships that `allow` names.
    /// # Errors
    /// As [`Self::userinfo`], and if no user is named.
    pub async fn fetch_user(&self, client: &HttpClient, access: &UpstreamAccessToken, allow: &AllowList) -> Result<UserInfo, IdpError> {
        let IdentitySource::Plain { user, emails, api } = &self.speaks else {
            return Err(IdpError::Refused("the provider has no user endpoint".to_owned()));
        };
        let (user, emails) = (
            self.get_json(client, user, access).await?,
            self.get_json(client, emails, access).await?,
        );
        let no_user = || IdpError::Refused("the user endpoint names no user".to_owned());
        let mut info = UserInfo::from_github(&user, &emails).ok_or_else(no_user)?;
        for name in &allow.organizations {
            let url = format!("{api}/user/memberships/orgs/{name}");
            if self.is_active_member(client, &url, access).await? {
                info.groups.push(allow_list::organization_group(name));
            }
        }
        if !allow.teams.is_empty() {
            let login = user
                .get("login")
                .and_then(Value::as_str)
                .filter(|login| allow_list::is_github_name(login));
            let login = login.ok_or_else(no_user)?;
            for team in &allow.teams {
                let url = format!("{api}/orgs/{}/teams/{}/memberships/{login}", team.organization, team.slug);
                if self.is_active_member(client, &url, access).await? {
                    info.groups.push(allow_list::team_group(team));
                }
            }
        }
        Ok(info)
    }

    /// Whether GitHub calls the membership active. An invitation that the user did not accept is `pending`.
    async fn is_active_member(&self, client: &HttpClient, url: &str, access: &UpstreamAccessToken) -> Result<bool, IdpError> {
        let endpoint = ExactUrl::parse(url).map_err(|error| IdpError::Setup(format!("{url} {error}")))?;
        let response = fetch(client, with_token(&endpoint, access)?, &self.target.addresses, REQUEST_TIMEOUT).await?;
        match response.status {
            StatusCode::NOT_FOUND => return Ok(false),
            StatusCode::FORBIDDEN => {
                tracing::warn!(
                    url,
                    "GitHub does not show this membership; the organization must approve the OAuth app, and the token needs the scope read:org"
                );
                return Ok(false);
            }
            _ => {}
        }
        let body = checked_body(url, response)?;
        let membership: Value =
            serde_json::from_slice(&body).map_err(|_| IdpError::Refused(format!("{endpoint} does not answer in JSON")))?;
        Ok(membership.get("state").and_then(Value::as_str) == Some("active"))
    }
}
