//! What a route needs, and whether a caller has it.

use super::caller::Caller;
use crate::vocab::access::{Role, Scope};

/// What a route declares. There is no default: a route without one does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// None: anyone, even a stranger.
    pub role: Option<Role>,
    pub reach: Reach,
}

/// What a route's answer is about, seen by a caller who is bound to one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Things that all clients share, such as chains: everyone sees the same.
    Shared,
    /// Things that belong to clients: the route shows a bound caller that client's only, and answers
    /// 404 for the rest.
    PerClient,
    /// The installation as a whole: not for callers who are bound to one client.
    WholeSite,
}

impl Access {
    pub const ANYONE: Self = Self {
        role: None,
        reach: Reach::Shared,
    };

    pub const fn shared(role: Role) -> Self {
        Self {
            role: Some(role),
            reach: Reach::Shared,
        }
    }

    pub const fn per_client(role: Role) -> Self {
        Self {
            role: Some(role),
            reach: Reach::PerClient,
        }
    }

    pub const fn whole_site(role: Role) -> Self {
        Self {
            role: Some(role),
            reach: Reach::WholeSite,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    /// Nobody knows who it is.
    Stranger,
    /// Has less than it takes.
    RoleTooLow {
        has: Role,
        needs: Role,
    },
    /// Is bound to one client, and the route is about all.
    BoundToClient,
}

pub fn decide(access: Access, caller: Option<&Caller>) -> Verdict {
    let Some(needs) = access.role else {
        return Verdict::Admitted;
    };
    let Some(caller) = caller else {
        return Verdict::Stranger;
    };
    if caller.role < needs {
        return Verdict::RoleTooLow {
            has: caller.role,
            needs,
        };
    }
    match (access.reach, &caller.scope) {
        (Reach::WholeSite, Scope::Client(_)) => Verdict::BoundToClient,
        _ => Verdict::Admitted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::caller::Who;

    fn caller(role: Role, scope: Scope) -> Caller {
        Caller {
            who: Who::User {
                name: "ada".into(),
                session: crate::vocab::Digest::of(b""),
            },
            role,
            scope,
        }
    }

    #[test]
    fn every_role_against_every_need() {
        for needs in Role::ALL {
            assert_eq!(decide(Access::shared(needs), None), Verdict::Stranger);
            for has in Role::ALL {
                for scope in [Scope::Everyone, Scope::Client("lab".into())] {
                    let bound = scope != Scope::Everyone;
                    let caller = caller(has, scope);
                    let enough = has >= needs;
                    for access in [Access::shared(needs), Access::per_client(needs)] {
                        let admitted = decide(access, Some(&caller)) == Verdict::Admitted;
                        assert_eq!(admitted, enough, "{has} at {access:?}");
                    }
                    let whole = decide(Access::whole_site(needs), Some(&caller));
                    assert_eq!(whole == Verdict::Admitted, enough && !bound);
                    assert_eq!(whole == Verdict::BoundToClient, enough && bound);
                }
            }
        }
        assert_eq!(decide(Access::ANYONE, None), Verdict::Admitted);
    }

    #[test]
    fn nobody_gives_what_they_have_not() {
        let lab = Scope::Client("lab".into());
        let bound = caller(Role::Admin, lab.clone());
        assert!(bound.may_grant(Role::Admin, &lab));
        assert!(!bound.may_grant(Role::Viewer, &Scope::Everyone));
        assert!(!bound.may_grant(Role::Viewer, &Scope::Client("other".into())));
        let author = caller(Role::Author, Scope::Everyone);
        assert!(author.may_grant(Role::Operator, &lab));
        assert!(!author.may_grant(Role::Admin, &lab));
    }
}
