"""What ExecuteCommand makes of its input."""

import pytest

from services.scheduler.decisions.execute_command import choose_container, log_group, log_object, read_command
from services.shared.errors import AwsError


def test_a_command_is_split_as_a_shell_would_and_no_shell_reads_it():
    assert read_command("sh -c 'echo $HOME; ls' \"a b\"") == ["sh", "-c", "echo $HOME; ls", "a b"]


@pytest.mark.parametrize("command", ["", "  ", "echo 'open", "a\0b"])
def test_a_command_that_is_none_is_refused(command):
    with pytest.raises(AwsError) as refusal:
        read_command(command)
    assert refusal.value.code == "InvalidParameterException"
    assert "command" in refusal.value.message


def test_the_only_container_need_not_be_named():
    assert choose_container(["main"], None) == "main"
    assert choose_container(["main", "side"], "side") == "side"


@pytest.mark.parametrize("wanted", [None, "other"])
def test_one_of_several_containers_must_be_named(wanted):
    with pytest.raises(AwsError) as refusal:
        choose_container(["main", "side"], wanted)
    assert refusal.value.code == "InvalidParameterException"
    assert "container" in refusal.value.message


def configuration(**members):
    return {"configuration": {"executeCommandConfiguration": members}}


@pytest.mark.parametrize(
    ("request_", "group"),
    [
        ({}, ""),
        (configuration(logging="NONE"), ""),
        (configuration(logging="DEFAULT", logConfiguration={"cloudWatchLogGroupName": "/x"}), ""),
        (configuration(logging="OVERRIDE", logConfiguration={"cloudWatchLogGroupName": "/x"}), "/x"),
        (configuration(logging="OVERRIDE", logConfiguration={"s3BucketName": "b"}), ""),
    ],
)
def test_a_session_is_logged_where_the_cluster_says(request_, group):
    assert log_group(request_) == group


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"s3BucketName": "b"}, ("b", "s-1.log")),
        ({"s3BucketName": "b", "s3KeyPrefix": "/exec/prod/"}, ("b", "exec/prod/s-1.log")),
        ({"s3KeyPrefix": "exec"}, ("", "")),
    ],
)
def test_a_session_s_object_has_its_name_under_the_prefix(given, place):
    assert log_object(configuration(logging="OVERRIDE", logConfiguration=given), "s-1") == place
    assert log_object(configuration(logging="DEFAULT", logConfiguration=given), "s-1") == ("", "")
