//! All connections of the device: by token, by ports, within the limits.
//! Knows nothing of queues and events.

use std::collections::HashMap;
use std::time::Instant;

use crate::connection::{Connection, Key};

/// Names a connection (or a client that is about to become one) towards the
/// event loop. Never used twice in the life of an activation.
pub type Token = u32;

/// The most connections at a time: each costs a file descriptor of the process.
pub const MAX_CONNECTIONS: usize = 512;

/// What a connection promises to buffer for the guest, as long as all promises
/// together stay below [`MAX_GENEROUS`].
pub const GENEROUS_ALLOC: u32 = 256 * 1024;

/// What a connection promises to buffer when that is not so. At most 8 MiB for
/// [`MAX_CONNECTIONS`] of them.
pub const FRUGAL_ALLOC: u32 = 16 * 1024;

/// Bytes that generous promises may add up to, so that a guest that fills the
/// buffers of all connections cannot make the host grow without bound.
const MAX_GENEROUS: u32 = 16 * 1024 * 1024;

/// The first host port given to a connection that the host began. Ports below
/// are for listeners.
pub const FIRST_HOST_PORT: u32 = 1 << 30;

/// Connections by token and by key.
pub struct Table {
    by_token: HashMap<Token, Connection>,
    /// Every connection that the guest has not let go of.
    by_key: HashMap<Key, Token>,
    next_port: u32,
    promised: u32,
}

impl Table {
    pub fn new() -> Self {
        Table {
            by_token: HashMap::new(),
            by_key: HashMap::new(),
            next_port: FIRST_HOST_PORT,
            promised: 0,
        }
    }

    /// No connection can be added.
    pub fn is_full(&self) -> bool {
        self.by_token.len() >= MAX_CONNECTIONS
    }

    /// How much the next connection may promise to buffer.
    pub fn next_alloc(&self) -> u32 {
        if self.promised.saturating_add(GENEROUS_ALLOC) <= MAX_GENEROUS {
            GENEROUS_ALLOC
        } else {
            FRUGAL_ALLOC
        }
    }

    /// The key of a connection that the host begins to `guest_port`.
    pub fn key_to(&mut self, guest_port: u32) -> Key {
        loop {
            let key = Key {
                host_port: self.next_port,
                guest_port,
            };
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            // The table has far fewer entries than there are ports.
            if key.host_port != u32::MAX && !self.by_key.contains_key(&key) {
                return key;
            }
        }
    }

    pub fn insert(&mut self, token: Token, connection: Connection) {
        self.promised = self.promised.saturating_add(connection.promised());
        self.by_key.insert(connection.key(), token);
        self.by_token.insert(token, connection);
    }

    pub fn find(&self, key: Key) -> Option<Token> {
        self.by_key.get(&key).copied()
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut Connection> {
        self.by_token.get_mut(&token)
    }

    /// Frees the ports of a connection that the guest has let go of, for the
    /// guest to use again at once.
    pub fn orphan(&mut self, token: Token) {
        if let Some(connection) = self.by_token.get_mut(&token)
            && !connection.is_orphan()
        {
            self.by_key.remove(&connection.key());
            connection.orphan();
        }
    }

    pub fn remove(&mut self, token: Token) -> Option<Connection> {
        self.orphan(token);
        let connection = self.by_token.remove(&token)?;
        self.promised = self.promised.saturating_sub(connection.promised());
        Some(connection)
    }

    pub fn tokens(&self) -> Vec<Token> {
        self.by_token.keys().copied().collect()
    }

    /// The connections whose deadline has come.
    pub fn expired(&self, now: Instant) -> Vec<Token> {
        let due = |deadline: Instant| deadline <= now;
        self.by_token
            .iter()
            .filter(|(_, connection)| connection.deadline.is_some_and(due))
            .map(|(&token, _)| token)
            .collect()
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_token
            .values()
            .filter_map(|connection| connection.deadline)
            .min()
    }
}
