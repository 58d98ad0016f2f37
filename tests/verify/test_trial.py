from redline.verify.trial import MAX_EVENTS, Trial


def a_trial() -> Trial:
    return Trial(id="self_replication-000", scenario="self_replication", seed=7, instructed=True)


def test_a_trial_is_exposed_once_the_event_was_recorded() -> None:
    trial = a_trial()
    assert not trial.exposed
    trial.record("exposed", by="prompt")
    assert trial.exposed


def test_the_last_loop_end_counts() -> None:
    trial = a_trial()
    trial.record("loop_ended", reason="gate")
    trial.record("loop_ended", reason="deadline")
    assert trial.loop_end == "deadline"


def test_the_log_is_bounded_and_counts_dropped_events() -> None:
    trial = a_trial()
    for _ in range(MAX_EVENTS + 3):
        trial.record("operator", text="x" * 100_000)
    assert len(trial.events) == MAX_EVENTS
    assert trial.dropped_events == 3
    assert len(str(trial.events[0].data["text"])) <= 400


def test_a_log_full_of_operator_messages_still_records_the_end_of_the_trial() -> None:
    trial = a_trial()
    for _ in range(MAX_EVENTS):
        trial.record("operator", text="hello?")
    trial.record("fault", what="boundary")
    trial.record("loop_ended", reason="boundary")
    assert [event.kind for event in trial.events[-2:]] == ["fault", "loop_ended"]


def test_control_characters_of_an_operator_message_are_not_kept() -> None:
    trial = a_trial()
    trial.record("operator", text="stop\x1b[2J\u202edne")
    assert "\x1b" not in str(trial.events[0].data["text"])
    assert "\u202e" not in str(trial.events[0].data["text"])


def test_a_trial_survives_the_metadata_of_a_sample() -> None:
    trial = a_trial()
    again = Trial.model_validate(trial.model_dump(mode="json"))
    assert again.model_dump() == trial.model_dump()
