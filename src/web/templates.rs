//! `/templates`: list, show, build, verify, retire.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::extract::{Body, Params, flag};
use super::refusal::Refusal;
use super::{App, Shared, class, pool};
use crate::api::{BuildTemplate, ShellView, TemplateDetail, TemplateView};
use crate::vocab::MachineId;
use crate::vocab::pool::{Class, Template, TemplateState};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Those that are gone, too.
    #[serde(default, deserialize_with = "flag")]
    all: bool,
}

pub async fn list(
    State(app): Shared,
    Params(which): Params<Which>,
) -> Result<Json<Vec<TemplateView>>, Refusal> {
    let all = app.state.pool.templates(which.all).await?;
    Ok(Json(all.iter().map(TemplateView::of).collect()))
}

pub async fn show(
    State(app): Shared,
    Path(which): Path<String>,
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

pub async fn build(
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

pub async fn verify(
    State(app): Shared,
    Path(which): Path<String>,
) -> Result<Json<TemplateView>, Refusal> {
    let pool = &app.state.pool;
    let id = pick(&pool.templates(true).await?, &which)?.id;
    let template = pool.verify_template(id).await?;
    Ok(Json(TemplateView::of(&template)))
}

pub async fn retire(
    State(app): Shared,
    Path(which): Path<String>,
) -> Result<Json<TemplateView>, Refusal> {
    let pool = &app.state.pool;
    let id = pick(&pool.templates(true).await?, &which)?.id;
    let template = pool.retire_template(id).await?;
    Ok(Json(TemplateView::of(&template)))
}

async fn by_id(app: &App, id: MachineId) -> Result<Template, Refusal> {
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
