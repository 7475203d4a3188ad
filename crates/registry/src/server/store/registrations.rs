//! [`Registrations`]: the registrations of one instance, by several servers perhaps, and when each of them expires.

use tokio::time::Instant;

use super::saved::SavedRegistration;
use crate::wire::RegistrationToken;

/// The registrations of one instance that are kept. Past it the one that expires first goes: requests without a token
/// make a new one each time.
const MAX_REGISTRATIONS: usize = 64;

/// The token of a registration, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Claim {
    /// The registry has made it for a request without one, whose sender may not know about tokens.
    Issued(RegistrationToken),
    /// The request carried it.
    Carried(RegistrationToken),
}

/// The registrations of one instance. There is always at least one.
#[derive(Debug)]
pub(super) struct Registrations(Vec<Registration>);

#[derive(Debug)]
struct Registration {
    /// `None` for what was registered or renewed without tokens by clients that do not know them.
    token: Option<RegistrationToken>,
    /// `true` if a request has carried the token: its owner will renew and end this registration itself.
    claimed: bool,
    deadline: Instant,
}

impl Claim {
    /// Returns the token.
    pub(in crate::server) const fn token(&self) -> &RegistrationToken {
        let (Self::Issued(token) | Self::Carried(token)) = self;
        token
    }
}

impl Registrations {
    pub(super) fn new(claim: Claim, deadline: Instant) -> Self {
        let mut registrations = Self(Vec::with_capacity(1));
        registrations.register(claim, deadline, deadline);
        registrations
    }

    /// Restores what was saved; one registration without a token if nothing was.
    pub(super) fn restore(saved: Vec<SavedRegistration>, deadline: Instant) -> Self {
        let saved = saved.into_iter().take(MAX_REGISTRATIONS);
        let mut registrations: Vec<_> = saved
            .map(|SavedRegistration { token, claimed }| Registration {
                token: Some(token),
                claimed,
                deadline,
            })
            .collect();
        if registrations.is_empty() {
            registrations.push(Registration { token: None, claimed: false, deadline });
        }
        Self(registrations)
    }

    /// Adds a registration, or renews it; returns `true` if that changes what is saved of servers that know tokens.
    pub(super) fn register(&mut self, claim: Claim, deadline: Instant, now: Instant) -> bool {
        self.remove_expired(now);
        let claimed = matches!(claim, Claim::Carried(_));
        if !claimed {
            // The earlier requests of a client without tokens count as the same registration, as far as it can be
            // told: with this it may shorten its time to live, and so leave.
            self.unclaimed().for_each(|known| known.deadline = known.deadline.min(deadline));
        }
        let (Claim::Issued(token) | Claim::Carried(token)) = claim;
        if let Some(known) = self.find(&token) {
            known.deadline = deadline;
            return claimed && !std::mem::replace(&mut known.claimed, true);
        }
        if self.0.len() >= MAX_REGISTRATIONS {
            let first = self.0.iter().enumerate().min_by_key(|(_, known)| (known.claimed, known.deadline));
            if let Some((first, _)) = first {
                self.0.swap_remove(first);
            }
        }
        self.0.push(Registration { token: Some(token), claimed, deadline });
        claimed
    }

    /// Returns `true` if this registration is known.
    pub(super) fn contains(&self, token: &RegistrationToken) -> bool {
        self.0.iter().any(|known| known.token.as_ref() == Some(token))
    }

    /// Renews one registration, or without a token what has none and what was never renewed with one; returns `true`
    /// if that changes what is saved.
    pub(super) fn renew(
        &mut self,
        token: Option<&RegistrationToken>,
        deadline: Instant,
        now: Instant,
    ) -> bool {
        let Some(token) = token else {
            let mut renewed = false;
            self.unclaimed().for_each(|known| (known.deadline, renewed) = (deadline, true));
            if !renewed {
                self.0.push(Registration { token: None, claimed: false, deadline });
            }
            self.remove_expired(now);
            return false;
        };
        let mut is_new = false;
        if let Some(known) = self.find(token) {
            known.deadline = deadline;
            is_new = !std::mem::replace(&mut known.claimed, true);
        }
        self.remove_expired(now);
        is_new
    }

    /// Returns `true` if nothing is left without this registration.
    pub(super) fn is_last(&self, token: &RegistrationToken, now: Instant) -> bool {
        self.contains(token)
            && !self.0.iter().any(|known| known.token.as_ref() != Some(token) && known.deadline > now)
    }

    /// Removes a registration that is not the last.
    pub(super) fn remove(&mut self, token: &RegistrationToken) {
        self.0.retain(|known| known.token.as_ref() != Some(token));
    }

    /// Gives all of them this deadline.
    pub(super) fn extend(&mut self, deadline: Instant) {
        self.0.iter_mut().for_each(|known| known.deadline = deadline);
    }

    /// Returns the deadline of the last one.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|known| known.deadline).max()
    }

    /// Returns those that have a token, to be saved.
    pub(super) fn saved(&self) -> Vec<SavedRegistration> {
        let saved = |known: &Registration| {
            known.token.clone().map(|token| SavedRegistration { token, claimed: known.claimed })
        };
        self.0.iter().filter_map(saved).collect()
    }

    fn find(&mut self, token: &RegistrationToken) -> Option<&mut Registration> {
        self.0.iter_mut().find(|known| known.token.as_ref() == Some(token))
    }

    fn unclaimed(&mut self) -> impl Iterator<Item = &mut Registration> {
        self.0.iter_mut().filter(|known| !known.claimed)
    }

    /// Removes those that have expired. Called only where another one is, or was just, renewed.
    fn remove_expired(&mut self, now: Instant) {
        self.0.retain(|known| known.deadline > now);
    }
}
