//! The audit log's chain: each record's hash covers the record and the hash before it, so that a
//! changed, inserted or removed record is seen by whoever reads all of them.
//!
//! A chain alone does not show that its end was cut off: [`verify`] is also given the head that was
//! stored apart, and may be given one that was kept elsewhere (the syslog stream carries each hash).

use serde::{Deserialize, Serialize};

use crate::vocab::{Digest, Timestamp};

/// What is written about a call: once when it is asked for, once when it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at: Timestamp,
    /// Id of the request; the same in both records.
    pub request: String,
    pub who: String,
    /// Address, or user of the socket.
    pub origin: String,
    /// Word of the role; empty for strangers.
    pub role: String,
    /// The client to which the caller is bound; empty: none.
    pub client: String,
    /// The operation, such as `run_start`.
    pub action: String,
    /// Method and path.
    pub subject: String,
    /// The answer's HTTP status; 0 in the record of the asking.
    pub status: i64,
    /// Why it was refused; empty otherwise.
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// From 1, without gaps.
    pub seq: i64,
    pub entry: Entry,
    pub previous: Digest,
    pub hash: Digest,
}

/// The last record's place and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub seq: i64,
    pub hash: Digest,
}

impl Head {
    /// Before the first record.
    pub fn start() -> Self {
        Self {
            seq: 0,
            hash: Digest::of(b"greenroom audit log 1"),
        }
    }

    pub fn extend(self, entry: Entry) -> Record {
        let seq = self.seq + 1;
        Record {
            seq,
            hash: hash(seq, &entry, self.hash),
            previous: self.hash,
            entry,
        }
    }
}

impl Record {
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }
}

fn hash(seq: i64, entry: &Entry, previous: Digest) -> Digest {
    // JSON of a list is unambiguous: no two different records have one text.
    let text = serde_json::json!([
        previous.to_string(),
        seq,
        entry.at.0,
        entry.request,
        entry.who,
        entry.origin,
        entry.role,
        entry.client,
        entry.action,
        entry.subject,
        entry.status,
        entry.detail
    ]);
    Digest::of_document(&text)
}

/// What is wrong at a place of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("record {expected} is missing: {found} comes after {}", expected - 1)]
    Missing { expected: i64, found: i64 },
    #[error("record {seq} was changed: its hash does not fit what it says")]
    Changed { seq: i64 },
    #[error("record {seq} does not follow the one before it: one of them was replaced")]
    Replaced { seq: i64 },
    #[error(
        "the log ends at record {found}, and its stored head is record {expected}: the end was cut off or replaced"
    )]
    Cut { expected: i64, found: i64 },
    #[error("the log does not contain record {seq} with the hash that was kept elsewhere")]
    NotTheKept { seq: i64 },
}

/// Reads records in order.
#[derive(Debug, Clone)]
pub struct Verifier {
    at: Head,
    kept: Option<Head>,
}

impl Verifier {
    /// `kept`: a head that was noted outside of the database.
    pub fn new(kept: Option<Head>) -> Self {
        Self {
            at: Head::start(),
            kept,
        }
    }

    pub fn read(&mut self, record: &Record) -> Result<(), Flaw> {
        if record.seq != self.at.seq + 1 {
            return Err(Flaw::Missing {
                expected: self.at.seq + 1,
                found: record.seq,
            });
        }
        if record.previous != self.at.hash {
            return Err(Flaw::Replaced { seq: record.seq });
        }
        if hash(record.seq, &record.entry, record.previous) != record.hash {
            return Err(Flaw::Changed { seq: record.seq });
        }
        self.at = record.head();
        if let Some(kept) = self.kept
            && kept.seq == self.at.seq
            && kept.hash != self.at.hash
        {
            return Err(Flaw::NotTheKept { seq: kept.seq });
        }
        Ok(())
    }

    /// After the last record; `stored` is the head that the database keeps apart.
    pub fn end(self, stored: Head) -> Result<Head, Flaw> {
        if stored != self.at {
            return Err(Flaw::Cut {
                expected: stored.seq,
                found: self.at.seq,
            });
        }
        match self.kept {
            Some(kept) if kept.seq > self.at.seq => Err(Flaw::NotTheKept { seq: kept.seq }),
            _ => Ok(self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(n: i64) -> Vec<Record> {
        let mut head = Head::start();
        (1..=n)
            .map(|at| {
                let record = head.extend(Entry {
                    at: Timestamp(at),
                    request: format!("r{at}"),
                    who: "user:ada".into(),
                    origin: "127.0.0.1".into(),
                    role: "admin".into(),
                    client: String::new(),
                    action: "run_start".into(),
                    subject: "POST /api/v1/runs".into(),
                    status: 202,
                    detail: String::new(),
                });
                head = record.head();
                record
            })
            .collect()
    }

    fn verify(records: &[Record], stored: Head, kept: Option<Head>) -> Result<Head, Flaw> {
        let mut verifier = Verifier::new(kept);
        for record in records {
            verifier.read(record)?;
        }
        verifier.end(stored)
    }

    #[test]
    fn every_change_of_every_record_is_seen() {
        let good = log(5);
        let head = good[4].head();
        assert_eq!(verify(&good, head, Some(good[2].head())), Ok(head));
        assert_eq!(verify(&[], Head::start(), None), Ok(Head::start()));
        for at in 0..5 {
            let mut removed = good.clone();
            removed.remove(at);
            assert!(verify(&removed, head, None).is_err(), "{at} removed");
            let changes: [fn(&mut Entry); 10] = [
                |e| e.at.0 += 1,
                |e| e.request.push('x'),
                |e| e.who = "user:eve".into(),
                |e| e.origin.clear(),
                |e| e.role = "viewer".into(),
                |e| e.client = "lab".into(),
                |e| e.action.push('x'),
                |e| e.subject.push('x'),
                |e| e.status = 403,
                |e| e.detail.push('x'),
            ];
            for change in changes {
                let mut changed = good.clone();
                change(&mut changed[at].entry);
                let seq = good[at].seq;
                assert_eq!(verify(&changed, head, None), Err(Flaw::Changed { seq }));
                // A forger who repairs the hash breaks the next record, or the head.
                let record = &mut changed[at];
                record.hash = hash(record.seq, &record.entry, record.previous);
                assert!(verify(&changed, head, None).is_err());
            }
        }
    }

    #[test]
    fn a_log_written_anew_does_not_have_the_head_that_was_kept_elsewhere() {
        let good = log(5);
        let mut anew = log(3);
        assert!(verify(&anew, anew[2].head(), Some(good[4].head())).is_err());
        anew = good.clone();
        anew[1].entry.who = "user:eve".into();
        let mut head = anew[0].head();
        for record in &mut anew[1..] {
            *record = head.extend(record.entry.clone());
            head = record.head();
        }
        assert_eq!(
            verify(&anew, head, None),
            Ok(head),
            "a whole new chain looks well"
        );
        assert_eq!(
            verify(&anew, head, Some(good[2].head())),
            Err(Flaw::NotTheKept { seq: 3 })
        );
    }
}
