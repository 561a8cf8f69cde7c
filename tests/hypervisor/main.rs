//! One behaviour suite for every hypervisor, so that the simulation cannot drift from libvirt.
//!
//! `suite` holds the rules; each is a test of its own against the simulation, and all of them run
//! against libvirt in the lab. The rest is about the simulation alone (`faults`, `fork_faults`), and about the
//! launcher of jobs on this host's shells (`launcher`).

mod faults;
mod fixture;
mod fork_faults;
mod launcher;
mod measure;
mod real;
mod shell;
mod suite;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use fixture::Fixture;

type Behaviour = for<'f> fn(&'f Fixture) -> BoxFuture<'f, ()>;

/// Makes a test per rule against the simulation, and a list of the same rules.
macro_rules! rules {
    ($($part:ident :: $rule:ident,)*) => {
        mod simulated {
            $(
                #[tokio::test]
                async fn $rule() {
                    let fixture = crate::fixture::simulated();
                    crate::suite::$part::$rule(&fixture).await;
                    fixture.clear().await;
                }
            )*
        }

        fn all_rules() -> Vec<(&'static str, Behaviour)> {
            vec![$((stringify!($rule), |fixture| suite::$part::$rule(fixture).boxed())),*]
        }
    };
}

rules! {
    machines::the_host_says_what_it_is,
    machines::starting_twice_starts_once,
    machines::an_id_with_another_tag_is_refused,
    machines::destroying_twice_is_fine,
    machines::strangers_stay_untouched,
    machines::events_tell_of_a_life,
    machines::use_grows_and_the_console_speaks,
    machines::several_are_looked_at_in_one_look,
    machines::a_call_to_a_stopped_guest_ends_in_time,
    machines::waiting_for_a_machine_that_goes_ends_early,
    machines::waiting_ends_at_the_deadline,
    disks::making_a_disk_twice_makes_it_once,
    disks::a_disk_is_found_by_its_serial,
    disks::a_disk_belongs_to_one_machine_at_a_time,
    disks::contents_travel_from_machine_to_machine,
    disks::a_disk_may_come_after_the_job_started,
    disks::a_disk_that_never_comes_fails_the_job,
    jobs::a_job_ends_with_its_exit_code_and_logs,
    jobs::a_job_that_was_started_is_not_started_again,
    jobs::logs_are_handed_over_while_the_job_runs,
    jobs::following_goes_on_at_an_offset,
    jobs::logs_beyond_the_cap_stay_in_the_guest,
    jobs::an_output_over_the_cap_is_too_large,
    travel::input_travels_whatever_its_bytes_and_size,
    travel::a_script_travels_whatever_its_characters,
    travel::a_command_is_run_without_a_shell,
    travel::the_environment_arrives,
    jobs::a_killed_job_has_the_code_of_its_signal,
    jobs::a_job_outlives_the_caller,
    jobs::a_job_knows_whether_it_was_started,
    travel::what_cannot_arrive_is_refused,
    jobs::following_ends_when_the_machine_goes,
    jobs::files_are_written_and_read,
    jobs::short_commands_run_to_their_end,
    templates::a_template_is_captured_sealed_and_removed,
    templates::only_a_captured_template_is_sealed,
    templates::a_damaged_template_is_noticed,
    forks::forks_share_a_past_and_no_future,
    forks::forks_draw_different_numbers,
    forks::a_fork_stands_still_until_it_goes_on,
    forks::a_fork_with_another_tag_is_refused,
    forks::what_forks_do_leaves_their_template_as_it_was,
    forks::memory_grows_as_asked,
    forks::processor_time_is_shared_out,
    forks::a_fork_gets_network_cards_of_its_own,
    forks::disks_travel_between_forks,
    forks::the_memory_of_forks_is_counted,
    forks::only_machines_of_ours_are_changed,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libvirt_obeys_the_same_rules() {
    let Some(fixture) = real::libvirt("suite").await else {
        return;
    };
    let only = std::env::var("GREENROOM_RULES").unwrap_or_default();
    let mut broken = Vec::new();
    for (name, rule) in all_rules() {
        if !name.contains(&only) {
            continue;
        }
        let began = std::time::Instant::now();
        let outcome = std::panic::AssertUnwindSafe(rule(&fixture))
            .catch_unwind()
            .await;
        eprintln!(
            "{} {name} {:.1} s",
            if outcome.is_ok() { "ok    " } else { "BROKEN" },
            began.elapsed().as_secs_f64()
        );
        if outcome.is_err() {
            broken.push(name);
        }
    }
    fixture.clear().await;
    assert!(broken.is_empty(), "broken: {broken:?}");
}
