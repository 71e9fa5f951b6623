//! Typed addresses of one node's actors.
//!
//! An actor that is restarted puts its new address in the same slot, so nobody holds a stale one.
//! A slot counts what waits in the mailbox: mailboxes are unbounded, so every way in looks at the
//! count first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ractor::{ActorRef, RpcReplyPort};

use crate::actors::driver::Mail;
use crate::core::front::Written;
use crate::core::join::Joiner;
use crate::core::machine::{Hears as _, Machine};
use crate::core::machines::{Cast, with_machines};
use crate::core::news::{Bulletin, Kind, News};
use crate::core::refusal::Refusal;
use crate::messages::wire::Message;
use crate::types::limits::MAILBOX_MAX;
use crate::types::{Lock, PeerId, ProposalId};

/// The actor can't take more, or is being restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{actor} is busy or restarting; try again shortly")]
pub struct Unavailable {
    /// Which actor.
    pub actor: &'static str,
}

/// The address of one actor.
pub struct Slot<M: Machine> {
    address: RwLock<Option<ActorRef<Mail<M>>>>,
    waiting: Arc<AtomicUsize>,
}

impl<M: Machine> Default for Slot<M> {
    fn default() -> Self {
        Self { address: RwLock::new(None), waiting: Arc::default() }
    }
}

impl<M: Machine> Slot<M> {
    /// The actor lives here from now on, with an empty mailbox.
    pub fn put(&self, address: ActorRef<Mail<M>>) {
        self.waiting.store(0, Ordering::Relaxed);
        *self.address.write().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Messages in the mailbox.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The actor took a message out.
    pub fn taken(&self) {
        // Saturating, because a restart sets the count to zero while messages are in hand.
        let saturating = |n: usize| Some(n.saturating_sub(1));
        let _ = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, saturating);
    }

    /// Puts something in the mailbox whatever its length: what comes from inside is bounded where
    /// it enters the node.
    pub fn mail(&self, mail: Mail<M>) -> bool {
        let address = self.address.read().unwrap_or_else(PoisonError::into_inner);
        let sent = address.as_ref().is_some_and(|address| {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            address.cast(mail).is_ok()
        });
        if !sent {
            self.taken();
        }
        sent
    }

    /// Puts something in the mailbox of one incarnation of the actor: what an earlier one has begun
    /// is no news to a later one.
    pub fn mail_to(&self, address: &ActorRef<Mail<M>>, mail: Mail<M>) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if address.cast(mail).is_err() {
            self.taken();
        }
    }

    /// Tells the actor something that came from outside, unless it has too much to do.
    pub fn offer(&self, msg: M::Msg) -> Result<(), Unavailable> {
        let unavailable = Unavailable { actor: M::NAME };
        if self.waiting() >= MAILBOX_MAX || !self.mail(Mail::Msg(msg)) {
            return Err(unavailable);
        }
        Ok(())
    }

    /// Asks the actor and waits for its answer. For the edges of a node only; actors never wait.
    pub async fn ask(&self, request: M::Request) -> Result<M::Reply, Unavailable> {
        let unavailable = Unavailable { actor: M::NAME };
        if self.waiting() >= MAILBOX_MAX {
            return Err(unavailable);
        }
        let (answer, answered) = ractor::concurrency::oneshot();
        if !self.mail(Mail::Call(request, RpcReplyPort::from(answer))) {
            return Err(unavailable);
        }
        answered.await.map_err(|_| unavailable)
    }
}

/// A machine whose actor has an address.
pub trait Addressed: Machine {
    /// Its place in a directory.
    fn slot(directory: &Directory) -> &Slot<Self>;
}

impl Addressed for Joiner {
    fn slot(directory: &Directory) -> &Slot<Self> {
        &directory.join
    }
}

impl Directory {
    fn bulletin(&self) -> MutexGuard<'_, Bulletin> {
        self.bulletin.locked()
    }

    /// What a machine that starts is told of these kinds, and the number of the last news that this
    /// covers.
    pub fn newest(&self, kinds: &[Kind]) -> (u64, Vec<News>) {
        self.bulletin().newest(kinds)
    }
}

macro_rules! directory {
    ($(
        $field:ident $variant:ident: $machine:ty,
        hears [$($heard:ident)*],
        tells [$($(#[doc = $doc:literal])+ $kind:ident($fact:ty))*];
    )*) => {
        /// The addresses of one node's actors.
        #[derive(Default)]
        pub struct Directory {
            $(
                #[doc = concat!("Of `", stringify!($machine), "`.")]
                pub $field: Slot<$machine>,
            )*
            /// Joining, before there is anything else.
            pub join: Slot<Joiner>,
            bulletin: Mutex<Bulletin>,
        }

        impl Directory {
            /// Tells news to all that want to know, and keeps them for those that start later.
            pub fn tell(&self, news: News) {
                let number = self.bulletin().keep(&news);
                $(
                    if <$machine as Machine>::NEWS.contains(&news.kind()) {
                        self.$field.mail(Mail::News(number, news.clone()));
                    }
                )*
            }

            /// Delivers a cast. A receiver that is being restarted misses it, and asks for the present
            /// state when it starts.
            pub fn deliver(&self, cast: Cast) {
                match cast {
                    $(Cast::$variant(msg) => self.$field.mail(Mail::Msg(msg)),)*
                };
            }

            /// Hands a message of another node to the machine that it is for; false if that has too much
            /// to do. Consensus is no machine, and takes its own.
            pub fn hear(&self, from: PeerId, message: Message) -> bool {
                match message {
                    $($(
                        Message::$heard(message) => {
                            self.$field.offer(<$machine>::heard(from, message)).is_ok()
                        }
                    )*)*
                    Message::Consensus(_) => false,
                }
            }

            /// Tells the machine of this name what became of its command.
            pub fn decided(&self, by: &str, id: ProposalId, result: Result<Written, Refusal>) {
                match by {
                    $(<$machine as Machine>::NAME => self.$field.mail(Mail::Decided(id, result)),)*
                    _ => false,
                };
            }

            /// Messages in the mailbox of the machine of this name.
            pub fn waiting(&self, name: &str) -> usize {
                match name {
                    $(<$machine as Machine>::NAME => self.$field.waiting(),)*
                    _ => 0,
                }
            }
        }

        $(
            impl Addressed for $machine {
                fn slot(directory: &Directory) -> &Slot<Self> {
                    &directory.$field
                }
            }
        )*
    };
}
with_machines!(directory);
