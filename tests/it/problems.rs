//! Every problem of the closed list has a test that provokes it: the table below names one for each
//! code. A code without a row, a test that is gone, and a file that does not speak of the code any
//! more are faults.
//!
//! What this cannot see is whether the test would fail without the problem. Whoever adds a row has
//! seen it fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use passbridge::testing::status::ProblemCode;

/// The word of a code, the file of a test that provokes it, the test, and how the file names the
/// code. The lowest level at which the fault is real comes first: the parser for what a decoder says,
/// the machine of the uplink for what the cloud answers, the whole box for disks and files.
#[rustfmt::skip]
const PROVOKED: &[(&str, &str, &str, &str)] = &[
    ("audit_differs", "tests/it/e2e/audit.rs", "what_is_missing_foreign_or_different_in_a_session_that_is_over_is_a_problem_also_after_a_restart", "audit_differs"),
    ("audit_waits", "tests/it/e2e/audit.rs", "an_audit_that_the_cloud_did_not_answer_is_made_after_the_next_start", "audit_waits"),
    ("bibs_broken", "src/cloud/passing/bibs.rs", "a_broken_bib_file_keeps_the_old_bibs_and_is_shown_with_its_line_until_it_is_good", "bibs_broken"),
    ("bibs_missing", "src/cloud/passing/bibs.rs", "a_bib_file_that_is_not_there_is_shown_until_it_is_and_one_that_goes_keeps_its_bibs", "bibs_missing"),
    ("box_battery_low", "src/daemon/telemetry.rs", "a_low_battery_and_a_hot_box_are_problems_and_a_value_at_the_limit_is_not_told_again_and_again", "box_battery_low"),
    ("box_clock_stepped", "tests/it/binary/faketime.rs", "the_system_clock_of_a_box_without_one_is_set_and_steps_and_every_read_has_the_right_day", "box_clock_stepped"),
    ("box_clock_unset", "src/model/clock.rs", "a_box_that_did_not_know_its_own_date_says_so_and_blames_no_decoder", "Doubt::BoxClockUnset"),
    ("box_clock_wrong", "src/cloud/uplink/tests/network.rs", "a_clock_or_a_certificate_that_is_wrong_is_a_problem_until_it_is_right", "box_clock_wrong"),
    ("box_hot", "src/daemon/telemetry.rs", "a_low_battery_and_a_hot_box_are_problems_and_a_value_at_the_limit_is_not_told_again_and_again", "box_hot"),
    ("cannot_ask", "src/cloud/uplink/tests/keys.rs", "a_key_that_may_only_write_uploads_into_its_own_session_and_says_what_that_means", "cannot_ask"),
    ("chips_unknown", "tests/it/e2e/exports.rs", "a_chip_whose_zeros_a_list_has_lost_gets_its_bib_unless_the_configuration_says_that_zeros_count", "chips_unknown"),
    ("cloud_fails_at", "src/cloud/uplink/tests.rs", "an_outage_of_the_cloud_costs_a_lone_read_neither_its_number_nor_its_place", "ProblemCode::CloudFailsAt"),
    ("cloud_not_trusted", "src/cloud/uplink/tests/network.rs", "a_clock_or_a_certificate_that_is_wrong_is_a_problem_until_it_is_right", "cloud_not_trusted"),
    ("cloud_not_understood", "tests/it/e2e/cloud_habits/seen.rs", "an_unknown_answer_about_the_active_session_is_told_and_is_never_taken_for_none", "cloud_not_understood"),
    ("cloud_refuses", "src/cloud/uplink/tests.rs", "a_cloud_that_refuses_everything_does_not_get_the_backlog_set_aside", "cloud_refuses"),
    ("cloud_silent", "src/cloud/uplink/tests/network.rs", "while_nobody_is_reached_a_try_comes_every_few_seconds_whatever_the_longest_wait", "ProblemCode::CloudSilent"),
    ("cloud_trouble", "src/cloud/uplink/tests.rs", "a_success_that_counts_nothing_is_trouble_of_the_cloud_and_sets_nothing_aside", "cloud_trouble"),
    ("configuration", "tests/it/binary/reading.rs", "the_file_of_the_key_is_looked_at_again_when_its_rights_or_its_content_change", "configuration"),
    ("configuration_changed", "tests/it/binary/reading.rs", "a_decoder_with_a_mistake_in_its_section_waits_for_its_correction_and_the_others_are_read", "configuration_changed"),
    ("configuration_unreadable", "tests/it/binary/reading.rs", "a_file_that_is_changed_while_the_box_runs_is_reported_and_the_running_box_can_be_asked", "configuration_unreadable"),
    ("configuration_wrong", "tests/it/binary/reading.rs", "the_page_is_never_shown_to_others_because_of_a_mistake", "configuration_wrong"),
    ("control_socket", "src/serve/control.rs", "a_socket_that_cannot_be_made_is_told_and_one_that_is_taken_away_is_made_again", "control_socket"),
    ("data_dir_taken", "tests/it/journal.rs", "a_data_directory_that_another_passbridge_has_by_now_is_told", "data_dir_taken"),
    ("decoder_clock_far", "src/model/clock.rs", "utc_that_is_days_off_is_kept_and_doubted", "Doubt::Far"),
    ("decoder_clock_near", "src/link/tests/set_up.rs", "a_clock_that_is_a_second_off_is_a_row_and_one_that_is_two_off_is_wrong", "decoder_clock_near"),
    ("decoder_clock_off", "src/link/tests.rs", "a_decoder_clock_that_is_off_is_measured_and_shown_until_it_is_right", "decoder_clock_off"),
    ("decoder_clock_unset", "src/model/clock.rs", "utc_of_a_clock_that_was_never_set_is_a_time_of_day_in_utc", "Doubt::ClockUnset"),
    ("decoder_error", "src/decoders/raceresult/protocol/tests.rs", "status_tells_the_clock_and_what_a_timer_should_see_and_when_it_is_over", "decoder_error"),
    ("decoder_flood", "tests/it/binary/overload.rs", "a_decoder_gone_mad_is_kept_or_counted_named_and_hurts_no_other", "decoder_flood"),
    ("decoder_misconfigured", "tests/it/binary/reading.rs", "a_decoder_with_a_mistake_in_its_section_waits_for_its_correction_and_the_others_are_read", "decoder_misconfigured"),
    ("decoder_no_records", "src/link/tests.rs", "a_megabyte_without_a_line_end_is_told_until_the_decoder_makes_sense", "decoder_no_records"),
    ("decoder_not_reading", "src/decoders/ultra/protocol.rs", "a_low_battery_and_a_box_that_does_not_read_are_told_once_and_taken_back", "decoder_not_reading"),
    ("decoder_number_not_valid", "src/link/doubts.rs", "a_doubt_about_a_decoders_time_is_shown_until_a_live_read_has_none", "decoder_number_not_valid"),
    ("decoder_port_taken", "src/link/tests/set_up.rs", "a_port_that_becomes_free_is_still_one_to_which_nobody_has_connected", "decoder_port_taken"),
    ("decoder_record_unclear", "src/decoders/timy/protocol.rs", "a_channel_in_lower_case_is_a_marker_with_its_time_and_told_once", "Condition::RecordUnclear"),
    ("decoder_record_unread", "src/decoders/mylaps/protocol.rs", "a_message_with_undecodable_records_is_still_acknowledged_and_every_record_is_kept", "Condition::RecordUnread"),
    ("decoder_refuses", "src/decoders/chronotrack/protocol/tests.rs", "what_is_refused_is_told_until_something_is_accepted", "code: REFUSES"),
    ("decoder_restarted", "tests/it/e2e/locations.rs", "a_chronotrack_source_that_counts_from_the_start_again_hides_no_new_read_at_any_location", "decoder_restarted"),
    ("decoder_silent", "src/link/tests.rs", "a_frozen_decoder_is_seen_and_is_not_called_connected_until_it_speaks", "decoder_silent"),
    ("decoder_time_last_seen", "src/decoders/llrp/protocol/tests.rs", "a_reader_that_reports_only_the_last_seen_time_is_read_with_a_doubt", "Caution::OnlyLastSeen"),
    ("decoder_time_long_ago", "src/model/clock.rs", "nothing_was_read_after_it_was_received_and_what_seems_long_ago_is_told", "Doubt::LongAgo"),
    ("decoder_time_no_date", "src/model/clock.rs", "a_time_without_a_date_is_of_the_newest_day_that_is_not_after_its_receipt", "Doubt::NoDate"),
    ("decoder_time_out_of_range", "src/model/clock.rs", "a_time_beyond_the_end_of_the_calendar_is_that_of_its_receipt", "Doubt::OutOfRange"),
    ("decoder_time_skipped", "src/model/clock.rs", "a_time_that_spring_skips_is_that_of_a_decoder_not_yet_changed", "Doubt::Gap"),
    ("decoder_time_twice", "src/model/clock.rs", "a_time_that_autumn_repeats_cannot_be_known_when_it_comes_late", "Doubt::Fold"),
    ("decoder_unreachable", "src/link/tests.rs", "a_decoder_that_drops_the_link_is_shown_and_connected_again", "decoder_unreachable"),
    ("decoder_waits_for_restart", "tests/it/binary/reading.rs", "a_decoder_with_a_mistake_in_its_section_waits_for_its_correction_and_the_others_are_read", "decoder_waits_for_restart"),
    ("decoder_without_clock", "src/model/clock.rs", "a_stamp_without_a_time_is_reckoned_back_from_its_receipt", "Doubt::NoClock"),
    ("device_unknown", "src/cloud/uplink/tests/keys.rs", "an_unknown_device_is_a_problem_of_its_own", "device_unknown"),
    ("disk_error", "tests/it/binary/faults.rs", "an_fdatasync_that_failed_once_is_not_trusted_again_and_nothing_is_lost", "disk_error"),
    ("disk_failed", "tests/it/binary/faults.rs", "a_disk_that_takes_no_writes_for_a_while_costs_nothing", "disk_failed"),
    ("disk_full", "tests/it/binary/disk.rs", "a_full_disk_is_told_loudly_reads_wait_in_memory_and_all_arrives_once_there_is_room", "disk_full"),
    ("disk_unusable", "tests/it/binary/home.rs", "a_data_directory_that_is_not_there_yet_is_waited_for", "disk_unusable"),
    ("files_in_between", "src/decoders/raceresult/protocol/tests.rs", "files_that_began_and_ended_while_the_box_was_off_are_not_mixed_in_but_told_of", "files_in_between"),
    ("journal_lost", "src/journal.rs", "a_power_cut_in_the_first_start_is_no_lost_journal_and_a_lost_one_is_told", "journal_lost"),
    ("journal_over_limit", "src/journal/sink/tests.rs", "the_log_is_pruned_up_to_the_slowest_sink_and_a_sink_that_was_removed_holds_nothing", "journal_over_limit"),
    ("key_file_unusable", "tests/it/binary/reading.rs", "the_file_of_the_key_is_looked_at_again_when_its_rights_or_its_content_change", "key_file_unusable"),
    ("key_missing", "tests/it/binary/reading.rs", "a_key_that_is_missing_empty_or_a_directory_stops_the_upload_only_and_starts_it_when_it_is_there", "key_missing"),
    ("key_refused", "src/cloud/uplink/tests/keys.rs", "a_refused_key_stops_the_posts_and_is_tested_every_few_minutes", "key_refused"),
    ("known_reads", "src/journal/dedup_index/tests.rs", "a_damaged_run_is_told_and_made_anew_by_the_next_start", "known_reads"),
    ("led_failed", "src/daemon/notify/led/tests.rs", "a_led_that_is_not_there_is_a_problem_that_names_the_others_and_is_over_when_it_comes", "led_failed"),
    ("llrp_antenna", "src/decoders/llrp/protocol/tests.rs", "a_cable_that_falls_off_is_told_until_it_is_back", "llrp_antenna"),
    ("llrp_no_inventory", "src/decoders/llrp/protocol/tests.rs", "a_reader_is_only_asked_unless_the_configuration_says_start", "llrp_no_inventory"),
    ("llrp_no_time", "src/decoders/llrp/protocol/tests.rs", "a_tag_without_a_time_is_rejected_and_told", "llrp_no_time"),
    ("llrp_reads_lost", "src/decoders/llrp/protocol/tests.rs", "another_program_at_the_reader_and_reads_that_it_lost_are_told", "llrp_reads_lost"),
    ("llrp_rival", "src/decoders/llrp/protocol/tests.rs", "another_program_at_the_reader_and_reads_that_it_lost_are_told", "llrp_rival"),
    ("llrp_start_refused", "src/decoders/llrp/protocol/tests.rs", "a_refused_inventory_is_told_and_tried_again", "llrp_start_refused"),
    ("log_damaged", "tests/it/journal.rs", "a_damaged_line_costs_that_line_and_is_reported_by_its_number", "log_damaged"),
    ("log_lost", "tests/it/binary/gone.rs", "files_whose_reads_are_all_sent_may_be_taken_and_it_is_told_by_number_until_they_are_back", "log_lost"),
    ("log_output", "tests/it/binary/output.rs", "a_log_that_is_read_again_goes_on_with_what_waited", "log_output"),
    ("log_removed", "tests/it/binary/gone.rs", "files_that_are_taken_away_under_the_box_cost_nothing_that_was_kept_while_reads_come", "log_removed"),
    ("log_unreadable", "tests/it/e2e/damage.rs", "whatever_is_damaged_the_box_starts_says_so_and_every_read_is_in_the_cloud_once", "log_unreadable"),
    ("low_battery", "src/link/tests/asking.rs", "what_an_earlier_connection_told_and_the_next_one_does_not_is_over", "low_battery"),
    ("many_rejected", "src/link/tests/buffer.rs", "a_flood_of_rejected_frames_is_capped_counted_and_named", "many_rejected"),
    ("mat_quiet", "src/daemon/notify/expected.rs", "a_silent_mat_is_a_problem_although_its_link_lives", "mat_quiet"),
    ("no_decoder", "tests/it/binary/reading.rs", "a_box_without_a_decoder_runs_and_reads_one_as_soon_as_it_is_configured", "no_decoder"),
    ("no_root_certificates", "tests/it/binary/tls.rs", "a_box_that_cannot_trust_the_cloud_reads_says_why_and_goes_on_when_it_can", "no_root_certificates"),
    ("no_session", "src/cloud/uplink/tests.rs", "without_a_session_reads_wait_and_the_cloud_is_asked_every_ten_seconds", "no_session"),
    ("not_set_up", "tests/it/binary/not_set_up.rs", "a_box_without_a_configuration_runs_says_so_and_reads_as_soon_as_it_has_one", "not_set_up"),
    ("not_timing", "src/decoders/raceresult/protocol/tests.rs", "status_tells_the_clock_and_what_a_timer_should_see_and_when_it_is_over", "not_timing"),
    ("offline", "src/cloud/uplink/tests/network.rs", "that_there_is_no_internet_is_said_only_where_that_is_known_and_once", "ProblemCode::Offline"),
    ("old_file_not_fetched", "src/decoders/raceresult/protocol/tests.rs", "the_old_file_is_finished_before_the_new_one_is_fetched", "old_file_not_fetched"),
    ("old_reads_missing", "src/decoders/one4all/protocol/tests.rs", "an_old_file_whose_length_is_not_told_is_finished_all_the_same", "Condition::OldReadsMissing"),
    ("on_hold", "tests/it/binary/hold.rs", "what_was_read_on_hold_is_never_sent_if_it_is_dropped_also_after_a_kill", "on_hold"),
    ("on_state_failed", "src/daemon/notify/program/tests.rs", "a_program_that_fails_is_a_problem_until_it_works", "on_state_failed"),
    ("other_writer", "src/cloud/uplink/tests.rs", "a_number_that_is_somebody_elses_is_left_to_them_and_ours_goes_on_above_it", "other_writer"),
    ("passings_misdated", "tests/it/e2e/clock.rs", "passings_uploaded_on_a_day_that_a_step_shows_to_be_wrong_are_named", "passings_misdated"),
    ("passings_not_given", "src/decoders/raceresult/protocol/tests.rs", "passings_that_are_counted_but_not_given_are_reported_and_asked_for_once", "passings_not_given"),
    ("passings_not_pushed", "src/decoders/raceresult/protocol/tests.rs", "a_push_that_was_switched_off_is_switched_on_again_and_told_if_that_does_not_help", "passings_not_pushed"),
    ("passings_set_aside", "src/cloud/uplink/tests.rs", "a_poisoned_passing_in_the_middle_is_set_aside_with_the_answer_and_nothing_else", "passings_set_aside"),
    ("passings_without_device", "tests/it/e2e/devices.rs", "what_the_closed_session_of_the_wrong_device_gave_back_follows_when_it_is_said_and_not_before", "passings_without_device"),
    ("protocol_too_old", "src/decoders/one4all/protocol/tests.rs", "a_protocol_without_passings_is_told_until_it_is_updated", "Condition::ProtocolTooOld"),
    ("queue_rebuilt", "tests/it/e2e/damage.rs", "whatever_is_damaged_the_box_starts_says_so_and_every_read_is_in_the_cloud_once", "queue_rebuilt"),
    ("reads_dropped", "src/link/tests/buffer.rs", "a_full_buffer_drops_the_newest_reads_of_a_streaming_decoder_and_says_exactly_how_many", "reads_dropped"),
    ("reads_held_back", "tests/it/e2e/habits_of_decoders.rs", "what_is_held_back_is_so_after_a_restart_too_and_may_be_let_go_while_the_box_is_off", "reads_held_back"),
    ("reads_missing", "src/decoders/one4all/protocol/tests.rs", "what_the_decoder_does_not_hand_over_is_reported_and_not_asked_for_ever", "Condition::ReadsMissing"),
    ("reads_without_decoder", "tests/it/e2e/locations.rs", "a_location_taken_out_of_the_table_loses_no_read_and_sends_none_twice", "reads_without_decoder"),
    ("session_disputed", "src/cloud/uplink/tests.rs", "a_session_that_refuses_but_is_shown_as_active_ends_no_numbering", "session_disputed"),
    ("session_lost", "src/cloud/uplink/tests.rs", "a_session_that_the_cloud_forgot_holds_nothing_and_its_passings_go_to_the_next", "session_lost"),
    ("session_not_created", "src/cloud/uplink/tests/proof.rs", "a_session_that_the_cloud_does_not_create_is_a_problem_until_it_does", "session_not_created"),
    ("set_aside_expires", "src/journal/room.rs", "a_refused_passing_is_kept_its_days_whatever_the_size_then_told_and_then_goes", "set_aside_expires"),
    ("starting", "src/status/judge/tests.rs", "a_box_that_has_just_started_says_so", "is being connected"),
    ("status_address", "src/serve/web/tests.rs", "an_address_that_is_not_on_this_box_yet_stops_nothing_and_is_shown", "status_address"),
    ("token_unusable", "tests/it/binary/reading.rs", "a_token_that_cannot_be_read_locks_the_page_and_stops_nothing_else", "token_unusable"),
    ("too_many_connections", "src/link/tests.rs", "while_all_connections_speak_the_seventeenth_is_turned_away", "too_many_connections"),
    ("too_many_locations", "src/decoders/chronotrack/protocol/tests.rs", "more_locations_than_are_cared_for_are_told", "Condition::TooManyLocations"),
    ("two_sources_one_location", "src/decoders/chronotrack/protocol/tests.rs", "two_records_of_one_number_that_tell_no_reader_are_told_of", "TWICE"),
    ("under_voltage", "src/daemon/telemetry.rs", "too_little_voltage_is_a_problem_until_it_was_right_for_a_minute", "under_voltage"),
    ("unsafe_no_sync", "tests/it/binary/stop.rs", "a_switch_of_a_test_that_costs_reads_at_a_power_cut_is_told_loudly", "unsafe_no_sync"),
    ("upload_misconfigured", "tests/it/binary/reading.rs", "a_mistake_about_the_upload_holds_the_upload_and_is_taken_on_when_no_read_can_get_lost", "upload_misconfigured"),
    ("upload_stands", "src/cloud/uplink/tests/network.rs", "while_nobody_is_reached_a_try_comes_every_few_seconds_whatever_the_longest_wait", "ProblemCode::UploadStands"),
    ("upload_waits_for_clock", "tests/it/e2e/clock.rs", "reads_without_a_date_wait_until_the_box_knows_its_own_and_then_have_the_right_day", "upload_waits_for_clock"),
    ("upload_waits_for_restart", "tests/it/binary/reading.rs", "a_mistake_about_the_upload_holds_the_upload_and_is_taken_on_when_no_read_can_get_lost", "upload_waits_for_restart"),
    ("webhook_failed", "src/daemon/notify/webhook/tests.rs", "a_message_that_is_refused_is_tried_again_and_the_problem_shows_nothing_but_the_host", "webhook_failed"),
    ("write_only_key", "src/cloud/uplink/tests/keys.rs", "a_key_that_may_only_write_uploads_into_its_own_session_and_says_what_that_means", "write_only_key"),
    ("wrong_baud", "src/link/tests/set_up.rs", "a_wrong_rate_is_told_within_seconds_on_a_serial_line_and_with_the_word_to_change", "wrong_baud"),
    ("wrong_protocol", "src/link/tests/set_up.rs", "a_wrong_protocol_is_named_with_the_line_to_change_until_something_is_understood", "wrong_protocol"),
    ("zone_missing", "src/link/tests/set_up.rs", "a_zone_that_is_not_configured_is_told_until_the_decoder_turns_out_to_send_utc", "zone_missing"),
];

/// The codes that no test provokes, and why.
const UNPROVOKED: &[(&str, &str)] = &[
    (
        "log_unread",
        "the disk has to fail at a read of an old segment, while the rest of the box works: nothing here can script reads",
    ),
    (
        "queue_unavailable",
        "the disk has to fail under the queue alone: whatever else is wrong with the queue, the journal makes it anew",
    ),
    ("prune_failed", "the disk has to refuse that a file is removed, while it can still be written"),
];

/// Whether the text has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let Some((before, _)) = text.split_once(&format!("fn {name}(")) else { return false };
    let head: Vec<&str> = before.lines().rev().take(6).collect();
    head.iter().any(|line| line.contains("#[test") || line.contains("#[tokio::test"))
}

#[test]
fn every_problem_of_the_closed_list_has_a_test_that_provokes_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut listed = BTreeSet::new();
    for (code, file, test, named) in PROVOKED {
        assert!(ProblemCode::of_word(code).is_some(), "`{code}` is on the closed list no more");
        assert!(listed.insert(*code), "`{code}` has two rows");
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(has_test(&text, test), "{file} has no test `{test}` any more, which provoked `{code}`");
        assert!(text.contains(named), "{file} does not speak of `{code}` any more (`{named}`)");
    }
    for (code, why) in UNPROVOKED {
        assert!(listed.insert(*code) && why.len() > 20, "`{code}` has two rows, or no reason");
    }
    for code in ProblemCode::ALL {
        assert!(listed.contains(code.word()), "no test provokes `{code}`: write one, and name it here");
    }
}

#[test]
fn a_test_is_found_by_its_name_and_only_if_it_is_a_test() {
    let text =
        "#[test]\nfn one() {}\n\nfn two() {}\n\n\n\n\n\n#[tokio::test(start_paused = true)]\nasync fn three() {}\n";
    assert!(
        has_test(text, "one") && has_test(text, "three") && !has_test(text, "four") && !has_test("fn two() {}", "two")
    );
}
