"""Each defect of the two programs that Waypost replaces, by its number, and the tests that it does not return.

The numbers are those by which the project counts what was found in them: G for GoSMTP-dup, S for smtpmux. Every
test named here asserts behaviour; this file only makes sure that none of them is lost.
"""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

DEFECTS: dict[str, tuple[str, ...]] = {
    # 250 before anything was relayed.
    "G1": (
        "delivery/test_failover.py::test_alone_its_failure_is_told_as_temporary",
        "delivery/test_failover.py::test_a_permanent_refusal_is_final",
        "delivery/test_copies.py::test_what_the_primary_refuses_is_not_copied",
    ),
    # Several messages on one connection.
    "G2": (
        "delivery/test_relay.py::test_transactions_never_leak_into_one_another",
        "foreign/test_postfix.py::test_messages_over_one_cached_connection_keep_their_own_recipients",
    ),
    # AUTH with empty credentials.
    "G3": ("delivery/test_failover.py::test_without_credentials_there_is_no_auth",),
    # Half a message is relayed when the client goes.
    "G4": ("delivery/test_intake.py::test_a_client_that_disappears_leaves_nothing_behind",),
    "S1": ("delivery/test_intake.py::test_a_client_that_disappears_leaves_nothing_behind",),
    # A probe sends an empty message.
    "G5": ("delivery/test_relay.py::test_rset_and_quit_give_the_connection_back_reset",),
    # Cut at a limit, and relayed.
    "G6": (
        "delivery/test_intake.py::test_what_may_not_pass_is_refused_whole_and_the_session_stays_in_step",
        "delivery/test_intake.py::test_primary_and_copy_get_what_was_sent",
        "delivery/test_intake.py::test_fifty_megabytes",
    ),
    "S2": ("delivery/test_intake.py::test_what_may_not_pass_is_refused_whole_and_the_session_stays_in_step",),
    # Copies in memory, one behind the other.
    "G7": (
        "delivery/test_copies.py::test_what_was_answered_250_is_copied_though_the_process_was_killed",
        "delivery/test_copies.py::test_the_client_waits_for_no_copy",
    ),
    # No time-outs, so no failover.
    "G8": ("delivery/test_failover.py::test_the_next_upstream_takes_what_the_first_fails_at",),
    "S9": ("delivery/test_failover.py::test_the_next_upstream_takes_what_the_first_fails_at",),
    # Whole messages in the log.
    "G9": ("test_secrets.py::test_no_log_level_shows_content_or_passwords",),
    # The comma-separated variable.
    "G10": ("config/test_old_formats.py::test_g10_every_way_to_write_the_backups",),
    # Open relay.
    "G11": (
        "config/test_sources.py::test_g11_s16_an_open_relay_is_refused_unless_told_to_in_so_many_words",
        "config/test_old_formats.py::test_g11_gosmtp_dup_open_to_everybody_says_so_loudly",
        "net/test_limits.py::test_a_relay_listener_is_for_trusted_networks_only",
    ),
    # An error at QUIT after acceptance.
    "G12": ("delivery/test_failover.py::test_an_error_at_quit_is_nobody_s_business",),
    "S8": ("delivery/test_failover.py::test_an_error_at_quit_is_nobody_s_business",),
    # Configuration that cannot be read is ignored.
    "G13": ("config/test_sources.py::test_g13_s17_a_named_file_must_be_readable",),
    "S17": (
        "config/test_sources.py::test_g13_s17_a_named_file_must_be_readable",
        "config/test_sources.py::test_s17_no_configuration_at_all_says_what_to_do",
    ),
    # A baked-in example shadows the mounted file.
    "G14": (
        "test_repository.py::test_the_image_bakes_in_no_configuration",
        "config/test_sources.py::test_g14_the_first_file_that_is_there_and_a_named_one_before_all",
    ),
    # The recommended Postfix set-up cannot start.
    "G15": (
        "foreign/test_postfix.py::test_the_migration_of_gosmtp_dup",
        "foreign/test_guides.py::test_what_check_says_is_what_the_guide_says",
    ),
    # Parameters dropped, SMTPUTF8 claimed blindly.
    "G16": (
        "delivery/test_relay.py::test_parameters_are_carried_through",
        "delivery/test_failover.py::test_what_needs_an_extension_goes_where_it_is_offered",
    ),
    "S23": (
        "delivery/test_relay.py::test_parameters_are_carried_through",
        "delivery/test_failover.py::test_what_needs_an_extension_goes_where_it_is_offered",
    ),
    # IPv6 literals.
    "G17": (
        "config/test_single_values.py::test_g17_s21_every_address_is_taken_apart",
        "delivery/test_intake.py::test_the_received_field_of_an_ipv6_client",
        "net/test_pool.py::test_both_families_are_tried",
    ),
    "S21": ("config/test_single_values.py::test_g17_s21_the_address_that_broke_both",),
    # The client's address is lost.
    "G19": (
        "foreign/test_addresses.py::test_postfix_knows_the_client_of_each_message",
        "net/test_told_upstreams.py::test_xclient_says_what_is_offered_and_introduces_us_as_the_client",
        "net/test_told_upstreams.py::test_xforward_goes_with_each_transaction",
    ),
    # Copies bounce to the author, and go to whom the primary refused.
    "G20": (
        "delivery/test_copies.py::test_every_target_gets_its_copy",
        "delivery/test_copies.py::test_copies_go_to_those_only_whom_the_primary_accepted",
        "delivery/test_copies.py::test_a_refused_copy_is_a_dead_letter_and_nobody_is_bothered",
    ),
    # Passwords in the log.
    "S3": (
        "test_secrets.py::test_no_log_level_shows_content_or_passwords",
        "config/test_sources.py::test_secrets_are_in_no_representation",
        "config/test_logins.py::test_secrets_are_shown_by_nothing",
        "net/test_oauth_logins.py::test_no_token_is_in_any_record",
        "delivery/test_plugin_choice.py::test_s13_it_sees_the_message_s_facts_and_the_upstreams_but_no_password",
        "plugins/test_programs.py::test_what_a_program_is_not_shown",
        "plugins/test_go_plugins.py::test_it_sees_no_password_and_its_answer_is_found_by_address_and_user",
    ),
    # Rewriting in the body; by a login name; of the null reverse-path.
    "S4": (
        "mail/test_rewrite.py::test_s4_only_the_header_section_is_rewritten",
        "mail/test_rewrite.py::test_s4_a_folded_field_is_replaced_as_a_whole",
        "mail/test_rewriting_rules.py::test_fields_that_are_not_touched_and_the_body_stay_octet_by_octet",
    ),
    "S5": (
        "mail/test_rewrite.py::test_s5_only_an_address_replaces_an_address",
        "config/test_rewriting_mistakes.py::test_every_mistake_in_rewriting_is_named",
    ),
    "S6": (
        "mail/test_rewrite.py::test_s6_the_null_reverse_path_stays_null",
        "delivery/test_rewriting.py::test_the_null_path_stays_though_from_is_rewritten",
    ),
    # Every provider down is permanent.
    "S7": (
        "delivery/test_failover.py::test_alone_its_failure_is_told_as_temporary",
        "delivery/test_failover.py::test_when_everybody_is_unwell_the_best_is_tried_anyway",
        "delivery/test_failover.py::test_a_refused_login_puts_the_upstream_to_sleep_and_is_never_permanent",
        "delivery/test_quota_failover.py::test_alone_and_spent_the_client_is_told_so",
    ),
    # What one provider refuses for good is tried at all of them.
    "S10": (
        "delivery/test_failover.py::test_a_permanent_refusal_is_final",
        "delivery/test_failover_table.py::test_it_is_final",
    ),
    # One refused recipient fails all.
    "S11": (
        "delivery/test_relay.py::test_every_recipient_gets_its_own_answer",
        "delivery/test_failover_table.py::test_what_is_said_of_one_recipient_concerns_that_one",
    ),
    # No TLS, passwords in the clear, nobody checked.
    "S14": (
        "net/test_tls.py::test_implicit_tls",
        "net/test_tls.py::test_starttls_forgets_what_was_said_in_the_clear",
        "net/test_upstream_logins.py::test_no_mechanism_goes_in_the_clear_unless_allowed",
    ),
    "S15": (
        "net/test_authentication.py::test_argon2_passwords_are_checked",
        "net/test_authenticator.py::test_a_wrong_name_costs_as_many_hashes_as_a_wrong_password",
        "net/test_authenticator.py::test_guessing_gets_slower_and_the_right_password_works_after_the_delay",
    ),
    "S16": (
        "net/test_authentication.py::test_auth_is_required_before_mail",
        "net/test_login.py::test_without_a_certificate_of_an_account_a_password_is_needed",
    ),
    # Nothing that makes a server: ports and names, limits, time-outs, ids, draining, pooling, metrics.
    "S18": ("config/test_single_values.py::test_addresses_to_listen_on",),
    "S19": (
        "net/test_limits.py::test_connections_per_address",
        "net/test_limits.py::test_silence_before_any_command",
        "delivery/test_intake.py::test_a_size_that_is_declared_too_large_is_refused_at_mail",
    ),
    # A process for each message; the selector sees only the list, passwords included.
    "S12": (
        "plugins/test_programs.py::test_s12_one_process_answers_all_questions",
        "plugins/test_programs.py::test_what_goes_wrong_is_said_in_time",
        "plugins/test_go_plugins.py::test_it_lives_on_between_messages",
    ),
    "S13": (
        "delivery/test_plugin_choice.py::test_s13_it_sees_the_message_s_facts_and_the_upstreams_but_no_password",
        "plugins/test_plugin_answers.py::test_s13_the_facts_of_an_upstream_have_no_place_for_a_password",
        "plugins/test_plugin_answers.py::test_no_refusal_can_say_yes_or_break_a_line",
        "plugins/test_go_plugins.py::test_a_selector_that_misbehaves",
        "plugins/test_foreign_kinds.py::test_mail_flows_whatever_a_go_plugin_does",
    ),
    "S20": ("delivery/test_relay.py::test_the_id_is_that_of_the_received_field",),
    "S22": ("net/test_draining.py::test_sigterm_lets_the_transaction_end",),
    "S24": (
        "net/test_pool.py::test_one_connection_serves_many_messages",
        "admin/test_admin.py::test_metrics",
    ),
}

NUMBERS = {f"G{number}" for number in (*range(1, 18), 19, 20)} | {f"S{number}" for number in range(1, 25)}


def names_in(path: Path) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse(path.read_text("utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_defect_is_accounted_for() -> None:
    assert DEFECTS.keys() == NUMBERS


@pytest.mark.parametrize("number", DEFECTS)
def test_its_tests_exist(number: str) -> None:
    for name in DEFECTS[number]:
        file, _, test = name.partition("::")
        assert test in names_in(TESTS / file), f"{number}: {name} is not there any more"
