//! The network boot: a device with an empty disk becomes known, gets its image and boots from it.
//!
//! ```text
//!  firmware ──DHCP──► dnsmasq ◄── plane (writes its configuration from decide's own answers, supervises it)
//!     │                  │
//!     │  boot file  ◄────┘ TFTP, the first hop only
//!     ▼
//!  iPXE ──HTTP──► listener ──► decide (pure) ──► script (typed builder)
//!     ▼
//!  ramdisk's agent ──HTTP──► listener ──► desk: identity (pure), life (pure), tokens
//!                                           │
//!                                           └──► runs::submit … the run's kept disk ──► delivery
//! ```
//!
//! One decision function answers DHCP, TFTP and HTTP alike, and `greenroom boot explain` shows it at
//! work. What is served is read from the database: there are no files per device.

pub mod client;
pub mod console;
pub mod decide;
pub mod delivery;
pub mod desk;
pub mod dnsmasq;
pub mod identity;
pub mod inventory;
pub mod life;
pub mod listener;
pub mod plane;
pub mod script;
pub mod settings;
pub mod telemetry;
pub mod trust;
mod untrusted;
pub mod wire;
