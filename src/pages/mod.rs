//! The web interface: pages made on the server, by typed templates, for people.
//!
//! ```text
//!  browser ──► web::guard (role, CSRF, audit) ──► a page's handler ──► the function behind the API's route
//!                                                       │
//!                                                       └──► a template's struct ──► frame::Page ──► HTML
//! ```
//!
//! Pages are routes like those of the API and stand behind the same gate; each file has `routes()`, and
//! each route its access. What a page shows it asks of the very functions that answer the API, with the
//! caller it was given, so that nobody sees here what they would not see there.
//!
//! Everything works without JavaScript: links to read, forms to change. `assets/page.js` adds what a
//! page cannot do by itself: it follows the API's event stream and puts parts of the page in place that
//! it has fetched anew, follows logs, and checks texts while they are written.
//!
//! Whatever comes from devices, guests and users is text. Templates escape; [`marks`] is the one place
//! that writes markup; [`frame`] lets no control character through; the policy allows no script and no
//! style but our two files.
//!
//! To add a page: a file here with `routes()` and a struct for its template in `templates/`, its name in
//! [`all_routes`], its row in `tests/pages/matrix.rs` and what it is shown with in `tests/pages`.

mod assets;
mod audit;
mod chains;
mod devices;
mod editor;
mod entrance;
mod foresight;
mod frame;
mod giving;
mod handoffs;
mod images;
mod marks;
mod overview;
mod personas;
mod picture;
mod plot;
mod pool;
mod refused;
mod run;
mod runs;
mod settings;
mod telemetry;
mod yaml;

use crate::web::Pages;
use crate::web::routes::Routes;

/// For [`crate::web::Doors`].
pub fn pages() -> Pages {
    Pages {
        routes: all_routes,
        refuse: refused::show,
    }
}

/// All pages, and what their forms do.
pub fn all_routes() -> Vec<Routes> {
    vec![
        overview::routes(),
        entrance::routes(),
        devices::routes(),
        runs::routes(),
        run::routes(),
        chains::routes(),
        personas::routes(),
        giving::routes(),
        pool::routes(),
        foresight::routes(),
        images::routes(),
        audit::routes(),
        settings::routes(),
        assets::routes(),
    ]
}
