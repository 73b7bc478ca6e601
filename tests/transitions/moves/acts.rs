//! Acts on a world, decoded from a few bytes, so that proptest and a fuzzer can choose them.

/// The cookie that a browser sends with a form.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// The cookie that was set last.
    Own,
    /// The cookie from before the sign-in.
    Older,
    /// The cookie of another flow.
    Other,
    /// No cookie.
    Nothing,
}

/// The values that arrive with the upstream's redirect.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bring {
    /// All values are the flow's own.
    Own,
    /// The `state` of another flow.
    OtherState,
    /// The cookie of another flow.
    OtherBrowser,
    /// No cookie.
    NoBrowser,
    /// The `iss` of another issuer.
    OtherIssuer,
    /// No `iss`.
    NoIssuer,
    /// The redirect arrives at the callback of another service.
    OtherService,
}

/// The values that a client sends to the token endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum With {
    /// All values are the flow's own, including the redirect URI.
    Own,
    /// The same without a redirect URI.
    NoRedirect,
    /// The redirect URI of another flow.
    OtherRedirect,
    /// The code of another flow.
    OtherCode,
    /// The verifier of another flow.
    OtherVerifier,
    /// No verifier.
    NoVerifier,
    /// A wrong client secret.
    OtherSecret,
    /// The request arrives at the token endpoint of another service.
    OtherService,
}

/// The tokens that the upstream issues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gives {
    /// Whether they include a refresh token.
    pub refresh: bool,
    /// The lifetime of the access token, in seconds.
    pub life: Option<u64>,
}

/// One event. Numbers select flows, pairs, grants and attempts, modulo their count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A client sends a browser to `/authorize`.
    Begin { client: u8, state: bool, service: u8 },
    /// A regular flow. Five `moves` give a code, three with no upstream step; a provider adds two.
    Journey { client: u8, service: u8, gives: Gives, moves: u8 },
    /// The user signs in with a password.
    SignIn { flow: u8, form: Form },
    /// The browser goes to the provider, which promises `iss` or not.
    ToIdp { flow: u8, form: Form, promise: bool },
    /// The provider redirects the browser back.
    FromIdp { flow: u8, bring: Bring, error: bool },
    /// The provider refuses a scope, and the browser goes there again without it.
    RepeatAtIdp { flow: u8, bring: Bring },
    /// The provider identifies a user: one of its own, or one of another provider.
    Identified { flow: u8, own: bool },
    /// The provider does not identify a user.
    NotIdentified { flow: u8 },
    /// The service requires no sign-in.
    Unnamed { flow: u8, form: Form },
    /// The user consents; the upstream promises `iss` or not.
    Approve { flow: u8, form: Form, promise: bool },
    /// The user consents and the code is issued here, with or without upstream tokens.
    Granted { flow: u8, form: Form, gives: Option<Gives> },
    /// The user denies.
    Deny { flow: u8, form: Form },
    /// The upstream redirects the browser back.
    Return { flow: u8, bring: Bring, error: bool },
    /// The same in stateless mode: the upstream's code travels in the client's code.
    HandOn { flow: u8, bring: Bring },
    /// The user consents in stateless mode, and the code contains no upstream code.
    Carry { flow: u8, form: Form },
    /// The upstream's code is exchanged.
    Exchange { flow: u8, gives: Gives },
    /// The exchange of the upstream's code fails.
    Fail { flow: u8 },
    /// A code is redeemed. With `at_once`, its grant is stored immediately.
    Redeem {
        flow: u8,
        by: Option<u8>,
        with: With,
        at_once: bool,
    },
    /// The grant of a redeemed code is stored.
    Grant { flow: u8 },
    /// A refresh pair is presented, counted from the newest; by the client `by`, if given. It may have
    /// been of the current generation when the request arrived.
    Present {
        pair: u8,
        by: Option<u8>,
        owner: u8,
        alone: bool,
        was_current: bool,
    },
    /// A pair is presented after its successor was used, about when the reuse window ends.
    Late { pair: u8, seconds: u64 },
    /// A process dies while it refreshes a pair, and the next one gets the previous pair.
    Crash { pair: u8 },
    /// The upstream answers an attempt, counted from the newest.
    Answer { attempt: u8, gives: Gives },
    /// The upstream refuses an attempt for good.
    Refuse { attempt: u8 },
    /// An attempt is released without a result.
    Release { attempt: u8 },
    /// A grant is revoked.
    End { grant: u8 },
    /// A pair, counted from the newest, is used at the MCP endpoint.
    Prove { pair: u8 },
    /// The upstream answers 401 to a pair.
    Unauthorized { pair: u8 },
    /// The gateway refreshes a stored token that is near its end or that the upstream refused.
    Renew { grant: u8, refused: bool, owner: u8, alone: bool },
    /// The same, and the upstream answers at once.
    Renewed { grant: u8, gives: Gives },
    /// The provider is asked about the user of a grant.
    CheckUser { grant: u8, owner: u8, alone: bool, later: bool },
    /// The provider answers a check, counted from the newest: with a new token, and about the user or not.
    AnswerCheck { check: u8, confirms: bool, owner_refuses: bool },
    /// The service switches between stored and sealed tokens.
    Reload,
    /// Stored tokens that are no longer needed are pruned.
    Tidy { grant: u8 },
    /// The record of a grant is copied.
    Backup { grant: u8 },
    /// The copy is put back, as when an old backup of the store is restored.
    Restore { grant: u8 },
    /// A pair is refreshed after a backup, the backup is restored, and the new pair is presented.
    Forget { pair: u8, gives: Gives },
    /// Time passes, in seconds.
    Wait(u64),
    /// Expired records are removed.
    Sweep,
}

const TIMES: [u64; 16] = [1, 1, 5, 29, 30, 31, 59, 60, 61, 75, 119, 121, 301, 600, 3_600, 2_000_000];

impl Act {
    /// The number of bytes that encode an act.
    pub(crate) const BYTES: usize = 4;

    /// Decodes an act. Every input is valid.
    pub(crate) fn read([kind, n, m, x]: [u8; Self::BYTES]) -> Self {
        let form = [
            Form::Own,
            Form::Own,
            Form::Own,
            Form::Own,
            Form::Own,
            Form::Older,
            Form::Other,
            Form::Nothing,
        ][usize::from(m % 8)];
        let gives = Gives {
            refresh: m % 3 != 2,
            life: [None, Some(3_600), Some(600), Some(50)][usize::from(x % 4)],
        };
        // Most flows take the longest path.
        let service = [0, 0, 0, 0, 1, 2, 3, 4, 4, 5][usize::from(n / 3 % 10)];
        match kind % 96 {
            0 | 1 => Self::Begin {
                client: n,
                state: m % 4 != 0,
                service,
            },
            2..=4 => Self::Journey {
                client: n,
                service,
                gives,
                moves: [5, 5, 5, 3, 4, 5, 2, 1][usize::from(x / 4 % 8)],
            },
            5 | 6 => Self::SignIn { flow: n, form },
            7 | 8 => Self::Approve {
                flow: n,
                form,
                promise: x % 2 == 0,
            },
            9 => Self::Deny { flow: n, form },
            10..=12 => Self::Return {
                flow: n,
                bring: bring(m),
                error: x % 6 == 0,
            },
            13 | 14 => Self::Exchange { flow: n, gives },
            15 => Self::Fail { flow: n },
            16..=21 => Self::Redeem {
                flow: n,
                by: other(x),
                with: with(m),
                at_once: x % 3 != 0,
            },
            22 => Self::Grant { flow: n },
            23..=30 => Self::Present {
                pair: n,
                by: other(x),
                owner: m,
                alone: m % 4 > 1,
                was_current: m / 4 % 8 == 7,
            },
            31..=34 => Self::Answer { attempt: n, gives },
            35 => Self::Refuse { attempt: n },
            36 => Self::Release { attempt: n },
            37 => Self::End { grant: n },
            38 | 61 => Self::Prove { pair: n },
            39 | 40 => Self::Tidy { grant: n },
            41 => Self::Backup { grant: n },
            42 => Self::Restore { grant: n },
            43 | 44 => Self::Late {
                pair: n,
                seconds: 59 + u64::from(m % 3),
            },
            45 | 46 => Self::Wait(TIMES[usize::from(n % 16)]),
            51 | 52 | 60 => Self::Crash { pair: n },
            53 | 54 => Self::Forget { pair: n, gives },
            47..=50 => Self::Unauthorized { pair: n },
            55 | 56 => Self::Unnamed { flow: n, form },
            57..=59 => Self::Granted {
                flow: n,
                form,
                gives: (m % 3 != 2).then_some(Gives { refresh: false, ..gives }),
            },
            62 | 63 => Self::ToIdp {
                flow: n,
                form,
                promise: x % 2 == 0,
            },
            64..=66 | 80..=83 => Self::FromIdp {
                flow: n,
                // Half of them send mostly wrong values: few flows are in this state.
                bring: bring(if n % 2 == 0 { m } else { 12 - m % 7 }),
                error: x % 3 == 0,
            },
            67 => Self::Identified { flow: n, own: m % 4 != 3 },
            68 | 69 => Self::NotIdentified { flow: n },
            70..=75 => Self::Renew {
                grant: n,
                refused: m % 2 == 0,
                owner: x,
                alone: m % 8 > 3,
            },
            76 | 77 => Self::Renewed { grant: n, gives },
            78 => Self::Reload,
            84 | 85 => Self::HandOn { flow: n, bring: bring(m) },
            86 | 87 => Self::Carry { flow: n, form },
            88..=90 => Self::RepeatAtIdp { flow: n, bring: bring(m) },
            91..=93 => Self::CheckUser {
                grant: n,
                owner: x,
                alone: m % 8 > 3,
                later: m % 2 == 0,
            },
            94 | 95 => Self::AnswerCheck {
                check: n,
                confirms: m % 4 != 3,
                owner_refuses: x % 8 == 7,
            },
            _ => Self::Sweep,
        }
    }
}

/// In one of eight cases, another client than the right one.
fn other(x: u8) -> Option<u8> {
    (x % 8 == 7).then_some(x / 8)
}

fn bring(m: u8) -> Bring {
    match m % 13 {
        7 => Bring::OtherState,
        8 => Bring::OtherBrowser,
        9 => Bring::NoBrowser,
        10 => Bring::OtherIssuer,
        11 => Bring::NoIssuer,
        12 => Bring::OtherService,
        _ => Bring::Own,
    }
}

fn with(m: u8) -> With {
    match m % 15 {
        8 => With::NoRedirect,
        9 => With::OtherRedirect,
        10 => With::OtherCode,
        11 => With::OtherVerifier,
        12 => With::NoVerifier,
        13 => With::OtherSecret,
        14 => With::OtherService,
        _ => With::Own,
    }
}
