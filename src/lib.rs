//! Greenroom turns devices that boot from the network into what they are meant to be, by chains of
//! short-lived virtual machines.
//!
//! # The picture
//!
//! ```text
//!  people, scripts ──► cli ──► api (wire types, client) ──► web (Unix socket, TLS; access: who may)
//!                                                             │
//!          persona file ──► personas: layer → version ────────►│  which one, as what files
//!            chain file ──► chain: read → check → Chain       ▼
//!                                         │            runs::submit  pins chain, images, sizes
//!                                         └──────────────►    │
//!                                                             ▼
//!        reconcile: rows against the host            runs::dispatch   whose turn is it
//!             │                                               │
//!             │                                        runs::drive ◄─► runs::plan (pure)
//!             │                                               │
//!             ▼                                        runs::act: make, attach, start, watch,
//!        hypervisor ◄──── pool (shells: resume, fork) ◄──     collect, detach, release
//!        libvirt │ simulated ◄── engines (clone, copy) ◄──    │
//!             ▲                                        store: rows, journal, artefacts
//!             │ a run for a device that appears               ▲
//!        netboot: decide (pure) ◄── desk, listener ◄── dnsmasq, devices' agent
//!        learn (pure) ◄── foresight: sizes, personas, models ◄── runs
//!                     ◄── demand: arrivals, forecasts ──► how many shells the pool keeps
//!        pages: web's functions as a web interface     power: BMCs, for devices that netboot wants anew
//! ```
//!
//! # Start reading here
//!
//! 1. [`vocab`], the nouns: a few pages.
//! 2. [`runs::plan`], what happens next in a run; [`runs::drive`], how it is made durable.
//! 3. [`hypervisor::Hypervisor`], what is asked of a host.
//! 4. [`chain::model`], what a chain file means.
//! 5. [`netboot`], how devices come from the network and get what their run made.
//! 6. [`power`], how devices are switched and told what to boot, without a hand.
//! 7. [`daemon`], how it is put together.
//!
//! # Import rules
//!
//! `vocab` ← {`chain`, `clock`, `blocking`, `access`, `learn`} ← {`store`, `hypervisor`, `images`} ← {`engines`, `foresight`, `personas`, `power`} ←
//! `pool` ← {`demand`, `runs`} ← {`reconcile`, `netboot`, `outbound`} ← `web` ← `pages` ←
//! `daemon`; `api` ← {`web`, `pages`, `cli`}. An arrow means "is imported by"; nothing imports against it.
//! `tests/layers.rs` holds this. One writer per row kind: `runs::drive` writes runs, attempts,
//! machines and their journal; everyone else asks it.
//!
//! # Where to add …
//!
//! | a … | go to |
//! |---|---|
//! | stage kind | [`vocab::stage::StageKind`] |
//! | engine | [`engines`]: a file with the same functions, a variant of [`vocab::machine::EngineKind`] |
//! | predictor of sizes and durations | [`learn::resources`]; trained and asked in [`foresight`], used from [`runs::pinned::stage_plan`] |
//! | feature of a stage | [`learn::features`]: the name, the number, and a higher version |
//! | forecasting method | [`learn::forecast::Forecaster`], then [`learn::forecast::select::roster`] |
//! | rule of pool sizes | [`learn::psim::policies`] to compare it, [`learn::sizing`] to use it |
//! | failure kind | [`vocab::failure::FailureKind`]; retry policies name its word |
//! | action of a run | [`runs::plan::Action`], its file in [`runs::act`] |
//! | transform language | [`chain::transform`], [`chain::model::Transform`] |
//! | kind of network client | [`netboot::decide`], and its tables |
//! | phase of a device | [`vocab::boot::BootPhase`], [`netboot::life`] |
//! | way to switch a machine | [`power::PowerControl`], a variant of [`vocab::power::BmcAddress`] |
//! | metric of delivered devices | [`vocab::telemetry::Metric`], computed in [`netboot::telemetry`] |
//! | thing that a run waits for | [`chain::model::AfterEvent`], [`runs::view::View::waits_for_device`] |
//! | kind of host | [`hypervisor::Hypervisor`], then run `tests/hypervisor` on it |
//! | base image | a folder in `images/` with `recipe.yaml`, `inputs` and `build` |
//! | route | [`web::routes`] says how; its wire types in [`api`] |
//! | page | [`pages`]: a route, a typed template, its samples in `tests/pages` |
//! | role, or rule of who may | [`access`] |
//! | way of telling others | [`outbound`] |
//! | key of personas | [`personas`]: the tables in `facets`, a field in [`vocab::persona::Document`], a check, a writer |
//! | command | [`cli`], a file per group |

pub mod access;
pub mod api;
pub mod blocking;
pub mod capacity;
pub mod chain;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod demand;
pub mod engines;
pub mod fault;
pub mod foresight;
pub mod hypervisor;
pub mod images;
pub mod learn;
pub mod netboot;
pub mod outbound;
pub mod pages;
pub mod personas;
pub mod pool;
pub mod power;
pub mod reconcile;
pub mod runs;
pub mod store;
pub mod vocab;
pub mod web;
