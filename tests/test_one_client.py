"""No client may cost the others: each rule, and the tests that hold it.

The rules are numbered as they were found. A test that is renamed is named anew here; a rule without a test fails.
"""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.servers import ROOT

RULES: dict[int, tuple[str, tuple[str, ...]]] = {
    # Work in one piece
    1: (
        "JSON bodies of tiny elements hold up nobody; their messages have a limit",
        (
            "server/test_bombs.py::test_others_are_served_meanwhile",
            "web/test_appending.py::test_messages_in_one_request_have_a_limit",
        ),
    ),
    2: (
        "events of line breaks hold up nobody, and are encoded once for all readers",
        (
            "server/test_bombs.py::test_others_are_served_meanwhile",
            "web/test_live_text.py::test_a_long_event_is_read_and_encoded_once_for_those_who_catch_up_together",
        ),
    ),
    3: (
        "heads have a limit; 414 and 431 are problems that pages may read",
        (
            "server/test_refusals.py::test_what_cannot_be_read_is_answered_with_a_problem",
            "server/test_refusals.py::test_long_heads_within_the_limits_are_served_as_http_1_1",
            "server/test_refusals.py::test_a_page_of_a_listed_origin_may_read_the_refusal",
        ),
    ),
    4: (
        "sub-offsets, long messages to many readers and compression hold up nobody",
        (
            "server/test_bombs.py::test_others_are_served_meanwhile",
            "web/test_compressed_pages.py::test_only_the_first_readers_of_a_page_cost_a_compression",
            "web/test_compressed_pages.py::test_so_many_are_compressed_at_once",
        ),
    ),
    5: (
        "expired streams are swept in groups, faster than others are made",
        (
            "contract/test_sweeper.py::test_expired_streams_are_removed_with_few_commits",
            "contract/test_sweeper.py::test_a_sweep_outruns_those_who_create_streams",
        ),
    ),
    # Memory and time without a limit
    6: (
        "bodies in flight are counted together, and against the memory before they are read",
        (
            "web/test_limits.py::test_bodies_in_flight_are_counted_while_they_are_read_and_written",
            "web/test_limits.py::test_a_body_that_memory_has_no_room_for_is_not_read",
        ),
    ),
    7: (
        "a client that takes nothing is dropped in time and delays no stop",
        (
            "server/test_deaf_readers.py::test_a_reader_that_takes_nothing_is_dropped_in_time",
            "server/test_deaf_readers.py::test_the_reconnect_interval_reaches_a_reader_that_takes_nothing",
            "server/test_deaf_readers.py::test_deaf_readers_do_not_hold_up_a_stop",
        ),
    ),
    8: (
        "what is remembered of streams counts at its real size; counts and lengths have limits",
        (
            "streams/test_budget.py::test_streams_without_payload_run_into_the_limit_and_make_room_again",
            "streams/test_budget.py::test_the_sum_is_always_that_of_all_streams",
            "web/test_limits.py::test_streams_are_counted_as_they_come_and_go",
            "web/test_limits.py::test_producers_of_a_stream_are_counted",
            "web/test_limits.py::test_forks_of_a_stream_are_counted",
            "web/test_limits.py::test_values_that_are_kept_have_a_length",
            "contract/test_counting.py::test_what_others_create_and_remove_is_counted",
        ),
    ),
    9: (
        "a full server answers probes and 503; one client may have so many connections",
        (
            "server/test_refusals.py::test_a_full_server_answers_its_probes_and_refuses_everything_else",
            "server/test_refusals.py::test_a_full_server_answers_probes_over_tls",
            "server/test_refusals.py::test_a_client_with_all_its_connections_costs_the_others_none",
            "worker/test_admission.py::test_a_client_is_an_address_or_a_network_of_ipv6",
            "worker/test_admission.py::test_the_oldest_that_is_beyond_gives_way",
        ),
    ),
    10: (
        "a body is alive as long as its bytes keep coming; silence and size are limited",
        (
            "web/test_bodies.py::test_a_body_may_take_any_time_while_its_bytes_keep_coming",
            "web/test_bodies.py::test_a_declared_length_must_come_at_a_hundred_bytes_a_second",
            "server/test_bodies.py::test_a_body_that_falls_silent_is_answered_408",
        ),
    ),
    11: (
        "a pause of the whole process ends no worker",
        ("server/test_surroundings.py::test_a_pause_of_the_whole_process_ends_no_worker",),
    ),
    # Rules of HTTP
    12: (
        "preconditions of writes are evaluated",
        (
            "web/test_preconditions.py::test_a_write_with_the_current_tag_is_carried_out",
            "web/test_preconditions.py::test_a_write_with_a_precondition_that_fails_changes_nothing",
            "protocol/test_preconditions.py::test_both_have_to_hold",
        ),
    ),
    13: (
        "Stream-Expected-Offset compares and appends in one step",
        (
            "web/test_preconditions.py::test_an_append_goes_where_the_client_expects_it",
            "web/test_preconditions.py::test_of_many_who_expect_the_same_end_one_appends",
            "web/test_preconditions.py::test_what_is_no_offset_is_refused",
            "web/test_preconditions.py::test_a_fork_has_an_end_of_its_own",
            "protocol/test_appending.py::test_a_repeated_append_of_a_producer_is_none_whatever_it_expects",
            "protocol/test_appending.py::test_a_refused_sequence_names_the_end",
        ),
    ),
    14: (
        "codings are undone within the limit, or refused",
        (
            "web/test_coded_bodies.py::test_what_is_stored_is_the_decoded_body",
            "web/test_coded_bodies.py::test_a_bomb_is_refused_and_not_inflated",
            "web/test_coded_bodies.py::test_any_other_coding_is_refused_with_those_that_are_known",
            "server/test_refusals.py::test_what_cannot_be_read_is_answered_with_a_problem",
        ),
    ),
    15: (
        "Connection is a list; the version of a response is the server's",
        (
            "worker/test_against_gunicorn.py::test_the_worker_answers_as_gunicorn_does_unless_the_table_says_why_not",
            "server/test_refusals.py::test_long_heads_within_the_limits_are_served_as_http_1_1",
        ),
    ),
    16: (
        "an encoded slash is part of a name and never of the base path",
        (
            "web/test_names.py::test_an_encoded_slash_is_part_of_a_name_and_never_of_the_base",
            "server/test_refusals.py::test_an_encoded_slash_is_no_part_of_the_base_path",
        ),
    ),
    17: (
        "pages of other origins may send any header with `*`, and write nothing with a list",
        (
            "web/test_cors.py::test_any_header_may_be_sent_where_every_origin_is_allowed",
            "web/test_cors.py::test_a_page_of_another_origin_may_not_write",
        ),
    ),
    18: (
        "stored content runs no script",
        (
            "web/test_cors.py::test_stored_content_cannot_run_in_the_origin_of_the_server",
            "browser/test_browser.py::test_in_a_browser",
        ),
    ),
    19: (
        "live text is the text that is read later",
        ("web/test_live_text.py::test_what_is_assembled_live_is_what_is_assembled_later",),
    ),
    20: (
        "`retry:` brings a plain EventSource back soon, with jitter",
        (
            "web/test_event_streams.py::test_an_event_source_is_told_to_come_back_soon_and_not_with_all_others",
        ),
    ),
    21: (
        "names may have 32 segments",
        (
            "web/test_names.py::test_the_longest_names_are_accepted",
            "web/test_names.py::test_limits_of_names_are_settings",
        ),
    ),
    # The process and the disk
    22: (
        "a full disk is left by deleting",
        (
            "engines/test_full_disk.py::test_from_any_full_state_deleting_enough_makes_appends_work_again",
            "engines/test_full_disk.py::test_what_is_kept_free_is_kept_free",
            "engines/test_full_disk.py::test_a_change_is_told_in_one_line_and_nothing_else_of_a_full_disk",
            "engines/test_full_disk.py::test_compacting_says_in_one_line_how_much_room_it_needs",
            "crash/test_full_disk.py::test_a_full_disk_is_left_by_deleting",
        ),
    ),
    23: (
        "a reload checks first, and keeps the worker and its memory",
        (
            "server/test_reloading.py::test_a_reload_keeps_the_worker_and_its_memory",
            "server/test_reloading.py::test_a_configuration_that_is_refused_changes_nothing",
            "server/test_reloading.py::test_a_renewed_certificate_is_shown_without_a_restart",
            "server/test_reloading.py::test_a_broken_certificate_stops_neither_a_reload_nor_a_restarted_worker",
            "server/test_reloading.py::test_a_worker_restarted_after_a_reload_serves_what_was_reloaded",
        ),
    ),
    24: (
        "what is around the process is taken, or refused in one line",
        (
            "server/test_reloading.py::test_a_second_master_is_refused_in_one_line",
            "server/test_surroundings.py::test_a_read_only_root_file_system_is_enough",
            "cli/test_refusals.py::test_what_the_environment_says_to_gunicorn_is_checked",
            "cli/test_commands.py::test_an_output_that_is_full_has_its_exit_code",
            "server/test_surroundings.py::test_options_in_the_environment_hold_for_the_console_script",
            "server/test_surroundings.py::test_a_log_that_nobody_reads_does_not_stop_the_server",
            "server/test_surroundings.py::test_a_start_after_a_killed_master_waits_for_the_port",
            "embedding/test_server_check.py::test_what_does_not_fit_is_said_once",
            "acid/test_packing.py::test_a_small_file_is_packed_when_nearly_all_of_it_is_garbage",
            "acid/test_packing.py::test_a_stop_packs_what_is_quick",
            "cli/test_maintenance.py::test_a_backup_is_verified_and_restored_without_naming_its_mode",
            "embedding/test_streams.py::test_a_directory_may_be_named_by_text",
        ),
    ),
    25: (
        "listening on every address without access control is said; a page may not delete on localhost",
        (
            "cli/test_start_checks.py::test_listening_on_every_address_is_warned_of",
            "web/test_cors.py::test_a_page_from_elsewhere_may_not_delete_on_localhost",
        ),
    ),
    26: (
        "file-fast refuses damage in what a sync has covered",
        (
            "files/test_recovery.py::test_the_fast_mode_refuses_damage_in_all_that_a_sync_has_covered",
            "files/test_recovery.py::test_the_fast_mode_refuses_damage_in_what_was_synced_and_cuts_what_was_not",
        ),
    ),
    27: (
        "a finished stream lets an EventSource go",
        (
            "web/test_event_streams.py::test_an_event_source_that_has_all_of_a_closed_stream_is_let_go",
            "browser/test_browser.py::test_in_a_browser",
        ),
    ),
    28: (
        "messages of the State Protocol have the offset of their append, where that is asked for",
        (
            "web/test_message_offsets.py::test_every_answer_has_the_offset_of_the_append",
            "contract/test_message_offsets.py::test_each_message_has_the_offset_that_its_append_was_answered",
        ),
    ),
    29: (
        "several base paths lead to the same streams",
        ("web/test_names.py::test_several_base_paths_lead_to_the_same_streams",),
    ),
}


def test_every_rule_is_there() -> None:
    assert sorted(RULES) == list(range(1, 30))


@pytest.mark.parametrize("number", RULES)
def test_every_rule_has_tests_that_there_are(number: int) -> None:
    rule, names = RULES[number]
    assert names, rule
    for name in names:
        path, _, function = name.partition("::")
        assert function in functions_of(path), f"{number}, {rule}: {name}"


@cache
def functions_of(path: str) -> set[str]:
    """The tests in a file that are not skipped whatever happens."""
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and not any(_is_skip(decorator) for decorator in node.decorator_list)
    }


def _is_skip(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute) and called.attr in ("skip", "xfail")
