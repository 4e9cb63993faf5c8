import base64
import json
from pathlib import Path

import pytest
from fake_host import plan_text

from qorch.errors import InputError
from qorch.facts import File

WEB = "[vm.web]\nkernel = 'k'\n"


def make(lines, **files):
    """The seed's files, and the configuration in its user-data."""
    known = {Path(f"/golden/{name}"): item for name, item in files.items()}
    known[Path("/golden/k")] = File()
    seed = plan_text(WEB + lines, files=known).machines["web"].seed.files
    text = seed["user-data"]
    return seed, json.loads(text.removeprefix("#cloud-config\n")) if "{" in text else {}


def test_packages_commands_and_files():
    """In cloud-init's words; content goes through unchanged."""
    _, config = make(
        """[vm.web.cloud_init]
        packages = ["nginx"]
        package_update = true
        commands = ["echo 'a: b'"]
        timezone = "Europe/Berlin"
        locale = "C.UTF-8"
        write_file = [
            { path = "/etc/motd", content = "hé\\n", permissions = "0600", owner = "root:adm" },
            { path = "/etc/other", source = "s" },
        ]""",
        s=File(text="from a file"),
    )
    files = config.pop("write_files")
    assert config == {
        "hostname": "web",
        "manage_etc_hosts": True,
        "packages": ["nginx"],
        "package_update": True,
        "runcmd": ["echo 'a: b'"],
        "timezone": "Europe/Berlin",
        "locale": "C.UTF-8",
    }
    assert [base64.b64decode(file.pop("content")).decode() for file in files] == [
        "hé\n",
        "from a file",
    ]
    assert files[0] == {
        "path": "/etc/motd",
        "encoding": "b64",
        "owner": "root:adm",
        "permissions": "0600",
    }


def test_a_password_is_a_hash_in_a_file():
    """The account is open then."""
    text = "cloud_init = { user = [{ name = 'a', password_file = 'p' }] }"
    _, config = make(text, p=File(text="$6$salt$hash\n"))
    (user,) = config["users"]
    assert (user["lock_passwd"], user["hashed_passwd"]) == (False, "$6$salt$hash")


def test_files_that_are_given_whole_go_through_as_they_are():
    """Each takes the place of what would have been made."""
    text = (
        "cloud_init = { user_data = 'u', vendor_data = 'v', meta_data = 'm', network_config = 'n' }"
    )
    seed, _ = make(text, **{name: File(text=f"{name}!") for name in "uvmn"})
    assert seed == {
        "user-data": "u!",
        "vendor-data": "v!",
        "meta-data": "m!",
        "network-config": "n!",
    }


def test_a_network_configuration_is_applied_at_each_boot():
    """It may change; cloud-init's default is once."""
    seed, config = make("cloud_init = { network_config = 'n' }", n=File(text="version: 2"))
    assert seed["network-config"] == "version: 2"
    assert config["updates"]["network"]["when"] == ["boot-new-instance", "boot"]


def test_what_changes_in_a_seed_is_no_new_instance():
    """What is done on a first boot is not done again on a disk in use."""
    one, _ = make("cloud_init = { commands = ['a'] }")
    two, _ = make("cloud_init = { commands = ['b'] }")
    assert one["user-data"] != two["user-data"]
    assert one["meta-data"] == two["meta-data"]


@pytest.mark.parametrize(
    ("cloud_init", "path", "message"),
    [
        ("user_data = 'u', packages = ['a']", "user_data", "and so are not packages"),
        ("meta_data = 'm', hostname = 'a'", "meta_data", "so is not hostname"),
        ("write_file = [{ path = '/a' }]", "write_file[0]", "has not one content"),
        ("write_file = [{ path = 'a', content = '' }]", "write_file[0].path", "no absolute path"),
        (
            "write_file = [{ path = '/a', content = '', permissions = 'rw' }]",
            "write_file[0].permissions",
            "is no mode",
        ),
    ],
)
def test_seeds_that_make_no_sense_are_refused(cloud_init, path, message):
    """With the key that is at fault."""
    with pytest.raises(InputError) as caught:
        make(f"cloud_init = {{ {cloud_init} }}", u=File(text=""), m=File(text=""))
    problems = {problem.path: problem.message for problem in caught.value.problems}
    assert message in problems[f"vm.web.cloud_init.{path}"]


def test_a_file_that_is_missing_is_named():
    """By the key that names it."""
    with pytest.raises(InputError, match=r"vm\.web\.cloud_init\.vendor_data: no v"):
        make("cloud_init = { vendor_data = 'v' }", v=File(error="no v"))
