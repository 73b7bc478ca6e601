//! What may be done to a world, told by a few bytes, so that chance and a fuzzer can both choose.

/// What a browser brings to a form.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// The cookie that it was given last.
    Own,
    /// The one from before signing in.
    Older,
    /// That of another journey.
    Other,
    /// None.
    Nothing,
}

/// What the upstream's redirect brings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bring {
    /// All of its own.
    Own,
    /// The `state` of another journey.
    OtherState,
    /// The cookie of another journey.
    OtherBrowser,
    /// No cookie.
    NoBrowser,
    /// The name of another issuer.
    OtherIssuer,
    /// No issuer.
    NoIssuer,
    /// It comes to the callback of another service.
    OtherService,
}

/// What a client brings to the token endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) enum With {
    /// All of its own, with its redirect URI.
    Own,
    /// As that, without a redirect URI.
    NoRedirect,
    /// The redirect URI of another journey.
    OtherRedirect,
    /// The code of another journey.
    OtherCode,
    /// The verifier of another journey.
    OtherVerifier,
    /// No verifier.
    NoVerifier,
    /// Another secret than the client's own.
    OtherSecret,
    /// It comes to the token endpoint of another service.
    OtherService,
}

/// What the upstream gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gives {
    /// Something to refresh with.
    pub refresh: bool,
    /// How long the access token lives, in seconds.
    pub life: Option<u64>,
}

/// One thing that happens. Numbers name journeys, pairs, grants and attempts, counted around.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A client sends a browser to us.
    Begin { client: u8, state: bool, service: u8 },
    /// An honest journey, so many moves far; five lead to a code, or three where nothing is asked of the upstream; an identity provider takes two more.
    Journey { client: u8, service: u8, gives: Gives, moves: u8 },
    /// The user signs in.
    SignIn { flow: u8, form: Form },
    /// The user goes to the identity provider, which promises `iss` or not.
    ToIdp { flow: u8, form: Form, promise: bool },
    /// The provider sends the browser back.
    FromIdp { flow: u8, bring: Bring, error: bool },
    /// The provider vouches for somebody: of its own, or of another one.
    Identified { flow: u8, own: bool },
    /// It does not.
    NotIdentified { flow: u8 },
    /// Nobody has to.
    Unnamed { flow: u8, form: Form },
    /// The user consents; the upstream promises `iss` or not.
    Approve { flow: u8, form: Form, promise: bool },
    /// The user consents, and the code is issued here; the upstream takes something of the user's or not.
    Granted { flow: u8, form: Form, gives: Option<Gives> },
    /// The user says no.
    Deny { flow: u8, form: Form },
    /// The upstream sends the browser back.
    Return { flow: u8, bring: Bring, error: bool },
    /// As that, and its code goes on in the client's, because nothing is kept.
    HandOn { flow: u8, bring: Bring },
    /// The user consents, and the code carries nothing, because nothing is kept.
    Carry { flow: u8, form: Form },
    /// The upstream's code is exchanged.
    Exchange { flow: u8, gives: Gives },
    /// It is not.
    Fail { flow: u8 },
    /// A code is redeemed; at once means that the grant is put down in the same breath.
    Redeem {
        flow: u8,
        by: Option<u8>,
        with: With,
        at_once: bool,
    },
    /// The second breath: the grant of a redeemed code is put down.
    Grant { flow: u8 },
    /// A refresh pair is presented, counted from the newest; by another client, if one is named.
    Present { pair: u8, by: Option<u8>, owner: u8, alone: bool },
    /// A pair is presented after its successor came back, and after so many seconds: where the grace ends.
    Late { pair: u8, seconds: u64 },
    /// A pair is presented, the process dies while it asks, and the next one gets the pair before it.
    Crash { pair: u8 },
    /// The upstream answers an attempt, counted from the newest.
    Answer { attempt: u8, gives: Gives },
    /// The upstream refuses one for good.
    Refuse { attempt: u8 },
    /// Nothing comes of one.
    Release { attempt: u8 },
    /// A grant is revoked.
    End { grant: u8 },
    /// A pair, counted from the newest, is seen at the MCP endpoint.
    Prove { pair: u8 },
    /// The upstream says 401 to one.
    Unauthorized { pair: u8 },
    /// The gateway looks after what it keeps: because of its age, or because the upstream refused it.
    Renew { grant: u8, refused: bool, owner: u8, alone: bool },
    /// As that, and the upstream answers at once.
    Renewed { grant: u8, gives: Gives },
    /// The service keeps tokens from now on, or no longer.
    Reload,
    /// What nobody needs any more is dropped.
    Tidy { grant: u8 },
    /// The record of a grant is copied.
    Backup { grant: u8 },
    /// The copy is put back: the store went back in time.
    Restore { grant: u8 },
    /// A pair is refreshed after a copy, the copy is put back, and what the refresh gave is presented.
    Forget { pair: u8, gives: Gives },
    /// Time passes, in seconds.
    Wait(u64),
    /// Expired records are removed.
    Sweep,
}

const TIMES: [u64; 16] = [1, 1, 5, 29, 30, 31, 59, 60, 61, 75, 119, 121, 301, 600, 3_600, 2_000_000];

impl Act {
    /// How many bytes name an act.
    pub(crate) const BYTES: usize = 4;

    /// The act that these bytes name; all bytes name one.
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
        // Most journeys go the longest way.
        let service = [0, 0, 0, 0, 1, 2, 3, 4, 4, 5][usize::from(n / 3 % 10)];
        match kind % 88 {
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
            },
            31..=34 => Self::Answer { attempt: n, gives },
            35 => Self::Refuse { attempt: n },
            36 => Self::Release { attempt: n },
            37 => Self::End { grant: n },
            38 => Self::Prove { pair: n },
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
                // Half of them from the wrong end: journeys seldom stand there.
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
            _ => Self::Sweep,
        }
    }
}

/// One in eight is another client than the rightful one.
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
