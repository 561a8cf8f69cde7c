//! `/templates`: list, show, build, verify, retire.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::extract::{Body, InPath, Params, flag};
use super::refusal::Refusal;
use super::routes::{Op, Routes};
use super::{App, Shared, class, cursor, pool};
use crate::access::Access;
use crate::api::{BuildTemplate, Page, ShellView, TemplateDetail, TemplateView};
use crate::vocab::MachineId;
use crate::vocab::access::Role;
use crate::vocab::pool::{Class, Template, TemplateState};

/// For reading a template's files: 10 GiB at 20 MiB/s.
const READING: Duration = Duration::from_secs(600);

/// Classes name the clients whose machines they are, so all of this is for those who may see everyone's.
pub fn routes() -> Routes {
    let (see, change) = (
        Access::whole_site(Role::Viewer),
        Access::whole_site(Role::Author),
    );
    Routes::of("templates", "What warm machines are forked from.")
        .with(
            Op::get("template_list", "/templates", see, list)
                .says("Templates, newest first")
                .query::<Which>()
                .answers::<Page<TemplateView>>(200),
        )
        .with(
            Op::post("template_build", "/templates", change, build)
                .says("Begins a template, unless there is one that is not out of date")
                .takes::<BuildTemplate>()
                .answers::<TemplateView>(200)
                .answers::<TemplateView>(202),
        )
        .with(
            Op::get("template_show", "/templates/{id}", see, show)
                .says("One template with what was forked from it, by id, the beginning of one, class or image")
                .answers::<TemplateDetail>(200),
        )
        .with(
            Op::post(
                "template_verify",
                "/templates/{id}/verify",
                Access::whole_site(Role::Operator),
                verify,
            )
            .says("Reads its files and compares them with what they were; takes as long as the disk takes")
            .answers::<TemplateView>(200)
            .within(READING),
        )
        .with(
            Op::post("template_retire", "/templates/{id}/retire", change, retire)
                .says("Nothing more is forked from it; it goes with its last machine")
                .answers::<TemplateView>(200),
        )
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// Those that are gone, too.
    #[serde(default, deserialize_with = "flag")]
    #[schemars(with = "bool")]
    pub(crate) all: bool,
    /// 100 when not given, 1000 at most.
    pub(crate) limit: Option<i64>,
    /// The `next` of the last page.
    pub(crate) cursor: Option<String>,
}

pub(crate) async fn list(
    State(app): Shared,
    Params(which): Params<Which>,
) -> Result<Json<Page<TemplateView>>, Refusal> {
    let all = app.state.pool.templates(which.all).await?;
    // Counted down, so that the newest is the first.
    let key = |template: &Template| {
        let age = i64::MAX - template.made_at.0.max(0);
        format!("{age:019} {}", template.id)
    };
    let (limit, cursor) = (which.limit, which.cursor.as_deref());
    cursor::cut("templates", all, limit, cursor, key, TemplateView::of).map(Json)
}

pub(crate) async fn show(
    State(app): Shared,
    InPath(which): InPath<String>,
) -> Result<Json<TemplateDetail>, Refusal> {
    let pool = &app.state.pool;
    let all = pool.templates(true).await?;
    let template = pick(&all, &which)?;
    let shells = pool.shells().await?;
    Ok(Json(TemplateDetail {
        template: TemplateView::of(template),
        shells: shells
            .iter()
            .filter(|shell| shell.template == template.id)
            .map(ShellView::of)
            .collect(),
    }))
}

pub(crate) async fn build(
    State(app): Shared,
    Body(order): Body<BuildTemplate>,
) -> Result<(StatusCode, Json<TemplateView>), Refusal> {
    let pool = pool::working(&app)?;
    let named = class::read(&order.class).map_err(class::invalid)?;
    let (class, _) = class::with_image(&app, named).await?;
    let id = pool.build_template(&class, order.force).await?;
    let template = by_id(&app, id).await?;
    let status = if template.state == TemplateState::Building {
        tracing::info!(%class, template = %id, "a template is built");
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(TemplateView::of(&template))))
}

pub(crate) async fn verify(
    State(app): Shared,
    InPath(which): InPath<String>,
) -> Result<Json<TemplateView>, Refusal> {
    let pool = &app.state.pool;
    let id = pick(&pool.templates(true).await?, &which)?.id;
    let template = pool.verify_template(id).await?;
    Ok(Json(TemplateView::of(&template)))
}

pub(crate) async fn retire(
    State(app): Shared,
    InPath(which): InPath<String>,
) -> Result<Json<TemplateView>, Refusal> {
    let pool = &app.state.pool;
    let id = pick(&pool.templates(true).await?, &which)?.id;
    let template = pool.retire_template(id).await?;
    Ok(Json(TemplateView::of(&template)))
}

pub(crate) async fn by_id(app: &App, id: MachineId) -> Result<Template, Refusal> {
    let all = app.state.pool.templates(true).await?;
    all.into_iter()
        .find(|template| template.id == id)
        .ok_or_else(|| Refusal::not_found(format!("template {id} is gone already")))
}

/// The template that is meant by an id, the beginning of one, a class (its newest) or an image of
/// which there is one class. Newest first, as given.
fn pick<'a>(all: &'a [Template], which: &str) -> Result<&'a Template, Refusal> {
    let class = match which.parse::<Class>() {
        Ok(class) => Some(class),
        Err(_) => {
            let classes = all.iter().map(|template| &template.class);
            let of_image = classes.filter(|class| class.image == which).collect();
            let meant = class::meant_by_image(of_image);
            meant
                .map_err(|several| class::ambiguous(which, &several))?
                .cloned()
        }
    };
    if let Some(class) = class {
        let mut of_class = all.iter().filter(|template| template.class == class);
        let alive = of_class
            .clone()
            .find(|template| template.state != TemplateState::Gone);
        return alive.or_else(|| of_class.next()).ok_or_else(|| {
            Refusal::not_found(format!(
                "there is no template of {class}; build one with `greenroom template build {class}`"
            ))
        });
    }
    let wanted = which.to_ascii_lowercase();
    let begins =
        |template: &&Template| !wanted.is_empty() && template.id.to_string().starts_with(&wanted);
    let matching: Vec<&Template> = all.iter().filter(begins).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(Refusal::not_found(format!(
            "there is no template {which:?}; see `greenroom template list --all`"
        ))),
        many => Err(Refusal::mistake(format!(
            "{} templates have an id that begins with {which}; give more of it",
            many.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::{Digest, Timestamp};

    fn template(id: &str, class: &str, state: TemplateState) -> Template {
        Template {
            id: id.parse().unwrap(),
            class: class.parse().unwrap(),
            generation: 1,
            state,
            key: Digest::of(b""),
            inputs: vec![],
            seal: None,
            reason: None,
            made_at: Timestamp(0),
            ready_at: None,
            phases: vec![],
        }
    }

    #[test]
    fn a_template_is_found_by_what_people_have_at_hand() {
        let all = [
            template(
                "0199a1b2-0003-7000-8000-000000000003",
                "tiny:1x128",
                TemplateState::Gone,
            ),
            template(
                "0199a1b2-0002-7000-8000-000000000002",
                "tiny:1x128",
                TemplateState::Ready,
            ),
            template(
                "0199a1b2-0001-7000-8000-000000000001",
                "toolbox:1x512",
                TemplateState::Ready,
            ),
            template(
                "0199a1b2-0000-7000-8000-000000000000",
                "toolbox:2x512",
                TemplateState::Ready,
            ),
        ];
        let found = |which: &str| pick(&all, which).map(|found| found.id);
        assert_eq!(found("0199a1b2-0001"), Ok(all[2].id));
        assert_eq!(
            found("0199A1B2-0003"),
            Ok(all[0].id),
            "one that is gone, by its id"
        );
        assert_eq!(found("tiny"), Ok(all[1].id), "the newest that is not gone");
        assert_eq!(found("toolbox:2x512"), Ok(all[3].id));
        for (which, part) in [
            ("toolbox", "toolbox:1x512, toolbox:2x512"),
            ("0199", "4 templates"),
            ("", "template list"),
            ("debian", "template list"),
        ] {
            let refusal = format!("{:?}", found(which).unwrap_err());
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
