"""Reading the configuration."""

import dataclasses
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from coldstore.config import tree
from coldstore.config.environment import variable
from coldstore.config.errors import ConfigurationError
from coldstore.config.reading import load, read
from coldstore.config.schema import Configuration, Drive
from coldstore.config.shape import section
from coldstore.tap import Options, makeService
from coldstore.util.listening import Listener, TlsFiles

EXAMPLE = Path(__file__).parents[2] / "etc" / "coldstore.yaml"
Step = str | int


def leaves(
    node: tree.Node, path: tuple[Step, ...] = ()
) -> Iterator[tuple[tuple[Step, ...], tree.Scalar | tree.Sequence]]:
    """Every setting of a tree, with its path; an empty list is one."""
    if isinstance(node, tree.Mapping):
        for key, inner in node.entries.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(node, tree.Sequence) and node.items:
        for index, inner in enumerate(node.items):
            yield from leaves(inner, (*path, index))
    else:
        yield path, node


def defaults() -> tree.Node:
    """The built-in defaults as a tree."""
    return tree.rendered(Configuration(), section(Configuration))


class ReadingTests(SynchronousTestCase):
    """What a file and the environment say becomes a ``Configuration``."""

    def read(self, text: str = "", **environment: str) -> Configuration:
        """Read a file; keyword arguments are variables without their prefix."""
        return read(
            text,
            "c.yaml",
            {f"COLDSTORE_{name}": value for name, value in environment.items()},
            lambda path: None,
        )

    def mistakes(self, text: str = "", **environment: str) -> list[str]:
        """What is said of a file with mistakes."""
        error = self.assertRaises(ConfigurationError, self.read, text, **environment)
        return [str(problem) for problem in error.problems]

    def assertMistakes(self, expected: list[str], text: str = "", **environment: str) -> None:
        """Each mistake begins with what is expected of it, and there is no other."""
        found = self.mistakes(text, **environment)
        self.assertEqual(len(found), len(expected), found)
        for one, beginning in zip(found, expected, strict=True):
            self.assertTrue(one.startswith(beginning), f"{one!r} does not begin with {beginning!r}")


class DefaultsTests(ReadingTests):
    """A first run needs no file."""

    def test_nothing_written(self) -> None:
        """No file, an empty file and an empty section stand for the defaults."""
        self.assertEqual(load(None, {}), Configuration())
        self.assertEqual(self.read(""), Configuration())
        self.assertEqual(self.read("server:\nclasses:\n  GLACIER:\n"), Configuration())

    def test_example_is_equal(self) -> None:
        """etc/coldstore.yaml says what the built-in defaults are."""
        self.assertEqual(load(str(EXAMPLE), {}), Configuration())

    def test_example_is_complete(self) -> None:
        """Every setting appears in etc/coldstore.yaml, and none that does not exist."""
        written, problems = tree.parsed(EXAMPLE.read_text(), "example")
        assert written is not None
        self.assertEqual(problems, [])
        self.assertEqual({path for path, _ in leaves(written)}, {path for path, _ in leaves(defaults())})

    def test_example_names_list_fields(self) -> None:
        """The comments of etc/coldstore.yaml show every setting of the elements of empty lists."""
        text = EXAMPLE.read_text()
        for field in dataclasses.fields(Drive):
            self.assertIn(f"{field.name}: ", text)

    def test_paths_follow_state_directory(self) -> None:
        """Paths that are not set lie in the state directory; those that are set stay."""
        moved = self.read("{state_directory: /srv/cold/, staging: {directory: /fast}}")
        self.assertEqual(moved.admin_socket, "/srv/cold/admin.sock")
        self.assertEqual(moved.sqlite_path, "/srv/cold/metadata.sqlite")
        self.assertEqual(moved.virtual_library_directory, "/srv/cold/vtl")
        self.assertEqual(moved.staging_directory, "/fast")


class FileTests(ReadingTests):
    """Values in a file."""

    def test_units(self) -> None:
        """Sizes and durations become bytes and seconds."""
        configuration = self.read("{staging: {capacity: 1.5GiB, segment: 1MiB}, mount: {max_hold: 90m}}")
        self.assertEqual(configuration.staging.capacity_bytes, 3 * 2**29)
        self.assertEqual(configuration.mount.max_hold_seconds, 5400.0)

    def test_classes_are_laid_over(self) -> None:
        """A class in the file changes only what it says; the other classes stay."""
        classes = self.read("{classes: {GLACIER: {tape_copies: [main]}}}").classes
        self.assertEqual(classes["GLACIER"].tape_copies, ("main",))
        self.assertTrue(classes["GLACIER"].needs_restore)
        self.assertEqual(classes["STANDARD"].tape_copies, ("main", "vault"))

    def test_pools_stand_alone(self) -> None:
        """The pools of a file are all there are."""
        self.assertEqual(
            set(self.read("{pools: {main: {}, vault: {verify: index}, third: {}}}").pools),
            {"main", "vault", "third"},
        )
        self.assertIn("there is no pool 'vault'", self.mistakes("pools: {main: {}}")[0])

    def test_text_as_written(self) -> None:
        """A text that looks like a number stays as it is written."""
        text = "tape: {library: scsi, changer: /dev/sg0, drives: [{element: 0, device: /dev/nst0, serial: 0012}]}"
        self.assertEqual(self.read(text).tape.drives[0].serial, "0012")

    def test_path_names_variable(self) -> None:
        """A variable in a path is replaced by its value, and must be set."""
        text = "state_directory: ${WHERE}/cold"
        self.assertEqual(read(text, "c", {"WHERE": "/srv"}).state_directory, "/srv/cold")
        error = self.assertRaises(ConfigurationError, read, text, "c", {})
        self.assertIn("WHERE, which is not set", str(error))

    def test_values_are_immutable(self) -> None:
        """Nothing of a configuration can be changed."""
        configuration = self.read()
        with self.assertRaises(dataclasses.FrozenInstanceError):
            configuration.server.port = 1  # type: ignore[misc]
        with self.assertRaises(TypeError):
            configuration.pools["other"] = configuration.pools["main"]  # type: ignore[index]


class MistakesTests(ReadingTests):
    """Every mistake is named by its place."""

    def test_all_at_once(self) -> None:
        """Mistakes of all kinds are reported together, in the order of the lines."""
        self.assertMistakes(
            [
                "c.yaml:2: server.prot: there is no such setting (there are: address, port",
                "c.yaml:3: server.port: 'x' is not a whole number",
                "c.yaml:4: staging.capacity: '5' has no unit",
                "c.yaml:6: tape.drives[1].device: is missing",
                "c.yaml:7: cache: set twice; first at c.yaml:5",
                "environment variable COLDSTORE_LOGGING_LEVEL: logging.level: 'loud' is not one of",
            ],
            "server:\n  prot: 1\n  port: x\nstaging: {capacity: 5}\ncache: {}\n"
            "tape: {drives: [{element: 0, device: /dev/nst0}, {element: 1}]}\ncache: {}\n",
            LOGGING_LEVEL="loud",
        )

    def test_values(self) -> None:
        """Every kind of value refuses what it is not."""
        for text, said in (
            ("server: {port: 65536}", "server.port: 65536 is out of range: 0 to 65535"),
            ("server: {port: 84.2}", "server.port: '84.2' is not a whole number"),
            ("server: {port: '84'}", "server.port: '84' is not a whole number"),
            ("server: {port: null}", "server.port: a value is needed here"),
            ("server: {port: [1]}", "server.port: a single value is needed here, not a list"),
            ("server: {address: 'a b'}", "server.address: 'a b' is not an IP address or a host name"),
            ("server: {sigv2_presigned: 1}", "server.sigv2_presigned: '1' is neither true nor false"),
            ("server: {domains: s3.example.org}", "server.domains: a list is needed here"),
            ("server: {domains: [A.b]}", "server.domains[0]: 'A.b' is not a domain name in lower case"),
            ("server: 5", "server: a mapping from settings to values is needed here"),
            ("server: {region: no}", "server.region: 'no' is a truth value in YAML; put it in quotes"),
            ("cache: {high_mark: 1.5}", "cache.high_mark: 1.5 is out of range: 0 to 1"),
            ("cache: {high_mark: .inf}", "cache.high_mark: '.inf' is not a number"),
            ("mount: {max_hold: 0s}", "mount.max_hold: 0s is out of range: 1ms to 3650d"),
            ("state_directory: cold", "state_directory: 'cold' is not an absolute path"),
            (
                "metadata: {backend: mysql}",
                "metadata.backend: 'mysql' is not one of sqlite, postgresql, etcd",
            ),
            *(
                (
                    f"metadata: {{etcd: {{endpoints: ['{text}']}}}}",
                    f"metadata.etcd.endpoints[0]: '{text}' is not a URL",
                )
                for text in (
                    "127.0.0.1:2379",
                    "http://",
                    "ftp://host",
                    "http://host/path",
                    "http://me@host",
                    "http://h:",
                )
            ),
            ("metadata: {etcd: {prefix: coldstore}}", "metadata.etcd.prefix: 'coldstore' is not a path"),
            ("metadata: {etcd: {prefix: /}}", "metadata.etcd.prefix: '/' is not a path"),
            ("pools: {Main: {}, main: {}, vault: {}}", "pools.Main: 'Main' is not a pool's name"),
            ("classes: {COLD: {}}", "classes.COLD: 'COLD' is not a storage class"),
            ("pools: [main]", "pools: a mapping from names to settings is needed here"),
            ("tape: {tools: {mtx: ./mtx}}", "tape.tools.mtx: './mtx' is neither an absolute path nor"),
            ("- server", ": a mapping from settings to values is needed here"),
        ):
            self.assertMistakes([f"c.yaml:1: {said}".replace(": : ", ": ")], text)

    def test_no_yaml(self) -> None:
        """What is no YAML is said with the line where it stops making sense."""
        for text, beginning in (
            ("server:\n  port: [1\n", "c.yaml:3: not valid YAML: "),
            ("a: b: c", "c.yaml:1: not valid YAML: "),
            ("a: *b", "c.yaml:1: not valid YAML: "),
            ("a: &b {c: *b}", "c.yaml:1: not valid YAML: nested too deeply"),
            ("--- 1\n--- 2\n", "c.yaml:2: not valid YAML: "),
            ("a: \x00", "c.yaml: not valid YAML: "),
        ):
            found = self.mistakes(text)
            self.assertTrue(any(one.startswith(beginning) for one in found), found)

    def test_files(self) -> None:
        """A file that a setting names must be readable; one that is not there is a mistake of that setting."""
        missing = self.mktemp()
        error = self.assertRaises(
            ConfigurationError,
            read,
            f"server:\n  tls: {{certificate_file: {EXAMPLE}, key_file: {EXAMPLE.parent}/{missing}}}",
            "c",
            {},
        )
        (problem,) = error.problems
        self.assertEqual((problem.where, problem.path), ("c:2", "server.tls.key_file"))
        self.assertIn("No such file", problem.text)

    def test_configuration_file_itself(self) -> None:
        """A configuration that is not there or no text is one mistake."""
        name = self.mktemp()
        self.assertIn(
            "cannot be read: No such file", str(self.assertRaises(ConfigurationError, load, name, {}))
        )
        Path(name).write_bytes(b"server: \xff")
        self.assertIn("is not UTF-8 text", str(self.assertRaises(ConfigurationError, load, name, {})))


class ListenersTests(SynchronousTestCase):
    """Where S3 clients are served."""

    def test_one_address(self) -> None:
        """Address, port and files come to one place; without files it is in the clear."""
        self.assertEqual(read("", "c", {}).listeners, (Listener(interface="127.0.0.1", port=8420),))
        text = f"server: {{port: 9, tls: {{certificate_file: {EXAMPLE}, key_file: {EXAMPLE}}}}}"
        files = TlsFiles(certificate_file=str(EXAMPLE), key_file=str(EXAMPLE))
        self.assertEqual(read(text, "c", {}).listeners, (Listener(interface="127.0.0.1", port=9, tls=files),))

    def test_endpoints(self) -> None:
        """Endpoints take the place of all that, from the environment, too."""
        found = read("server: {endpoints: ['tcp:9000', 'ssl:443:privateKey=/k']}", "c", {}).listeners
        self.assertEqual([listener.port for listener in found], [9000, 443])
        found = read(None, "c", {"COLDSTORE_SERVER_ENDPOINTS": "['tcp6:9001']"}).listeners
        self.assertEqual(found, (Listener(interface="::", port=9001),))


class ContradictionsTests(ReadingTests):
    """Settings that are right by themselves and wrong together."""

    def test_named_by_place(self) -> None:
        """A contradiction is named where it was written, or where what surrounds it was."""
        scsi = "tape: {library: scsi, changer: /dev/sg9, drives: "
        for text, said in (
            ("operator:\n  port: 8420", "c.yaml:2: operator.port: 8420 is the port of the S3 endpoint"),
            ("server:\n  tls: {key_file: /k}", "c.yaml:2: server.tls.certificate_file: is missing"),
            (
                'server:\n  endpoints: ["tcp:9000", "tcp:8421:interface=127.0.0.1"]',
                "c.yaml:1: operator.port: 8421 is the port of the S3 endpoint (server.endpoints)",
            ),
            (
                'server:\n  endpoints: ["tcp:9000", "tcp:9000"]',
                "c.yaml:2: server.endpoints: port 9000 is named twice",
            ),
            (
                f"server:\n  endpoints: ['tcp:9000']\n  tls: {{certificate_file: {EXAMPLE}, key_file: {EXAMPLE}}}",
                "c.yaml:3: server.tls.certificate_file: belongs to server.address",
            ),
            ("server:\n  endpoints: ['tcp:x']", "c.yaml:2: server.endpoints[0]: 'tcp:x' needs a port"),
            ("cache: {high_mark: 0.5}", "c.yaml:1: cache.low_mark: must be less than cache.high_mark"),
            ("staging: {capacity: 1MiB}", "c.yaml:1: staging.segment: is larger than staging.capacity"),
            (
                "staging: {small_object: 16MiB, segment: 63MiB}",
                "c.yaml:1: staging.small_object: must not be larger",
            ),
            (
                "classes: {GLACIER: {tape_copies: [main, main]}}",
                "c.yaml:1: classes.GLACIER: tape_copies names a pool twice",
            ),
            (
                "classes: {GLACIER: {tape_copies: [third]}}",
                "c.yaml:1: classes.GLACIER.tape_copies[0]: there is no pool",
            ),
            (
                "classes: {GLACIER: {tape_copies: []}}",
                "c.yaml:1: classes.GLACIER: without tape_copies and without",
            ),
            (
                "classes: {GLACIER: {needs_restore: false}}",
                "c.yaml:1: classes.GLACIER: without keep_on_disk reads need",
            ),
            ("archive:\n  trigger:\n    age: 1m", "c.yaml:2: archive.trigger.idle_age: must not be longer"),
            (
                "recall: {tiers: {standard: {hold: 6h}}}",
                "c.yaml:1: recall.tiers.standard.hold: must not be longer",
            ),
            (
                "recall: {tiers: {bulk: {target: 3h}}}",
                "c.yaml:1: recall.tiers.bulk.target: must not be shorter",
            ),
            ("notify: {pause_first: 1h}", "c.yaml:1: notify.pause_first: must not be longer"),
            ("tape: {virtual: {slots: 3}}", "c.yaml:1: tape.virtual.cartridges: there are only 3 slots"),
            ("tape: {changer: /dev/sg1}", "c.yaml:1: tape.changer: belongs to a real library"),
            ("tape: {reservations: true}", "c.yaml:1: tape.reservations: belongs to a real library"),
            (scsi + "[]}", "c.yaml:1: tape.drives: is empty"),
            (
                "tape: {library: scsi, drives: [{element: 0, device: /dev/nst0}]}",
                "c.yaml:1: tape.changer: is missing",
            ),
            (
                scsi + "[{element: 0, device: /dev/st0}]}",
                "c.yaml:1: tape.drives[0].device: '/dev/st0' rewinds",
            ),
            (
                scsi + "[{element: 0, device: /dev/nst0}, {element: 0, device: /dev/nst1}]}",
                "c.yaml:1: tape.drives[1].element: 0 is that of drives[0] too",
            ),
            (
                "notify: {webhooks: [{name: a, url: 'http://b'}, {name: a, url: 'http://c'}]}",
                "c.yaml:1: notify.webhooks[1].name: 'a' is that of webhooks[0] too",
            ),
            (f"admin: {{socket: /{'s' * 107}}}", "c.yaml:1: admin.socket: "),
            (
                "metadata:\n  postgresql:\n    tls: verify-full",
                "c.yaml:2: metadata.postgresql.ca_file: is missing: with tls: verify-full",
            ),
            ("metadata: {etcd: {endpoints: []}}", "c.yaml:1: metadata.etcd.endpoints: is empty"),
            (
                "metadata: {etcd: {user: cold}}",
                "c.yaml:1: metadata.etcd.password_file: is missing: user alone",
            ),
            ("metadata: {etcd: {password_file: /dev/null}}", "c.yaml:1: metadata.etcd.user: is missing"),
            (
                "metadata: {etcd: {key_file: /dev/null}}",
                "c.yaml:1: metadata.etcd.certificate_file: is missing",
            ),
            (
                "metadata: {etcd: {certificate_file: /dev/null}}",
                "c.yaml:1: metadata.etcd.key_file: is missing",
            ),
        ):
            found = self.mistakes(text)
            self.assertTrue(any(one.startswith(said) for one in found), f"{said!r} not in {found}")

    def test_between_file_and_environment(self) -> None:
        """A variable that contradicts the file is the one that is named when it was the one to say so."""
        self.assertMistakes(
            ["environment variable COLDSTORE_OPERATOR_PORT: operator.port: 9 is the port of the S3 endpoint"],
            "server: {port: 9}",
            OPERATOR_PORT="9",
        )


class EnvironmentTests(ReadingTests):
    """Every setting can be overridden by a variable."""

    def test_every_setting(self) -> None:
        """Each setting of the defaults, given as a variable of its own, reads back as itself; no two share a name."""
        paths = [path for path, _ in leaves(defaults())]
        names = [variable(path) for path in paths]
        self.assertEqual(len(set(names)), len(names))
        self.assertGreater(len(names), 100)
        for path, node in leaves(defaults()):
            text = node.text if isinstance(node, tree.Scalar) else "[]"
            self.assertEqual(read("", "c", {variable(path): text}), Configuration(), path)

    def test_arrives_where_it_is_meant(self) -> None:
        """A wrong value in any variable is reported for exactly the setting that the variable names."""
        for path, _ in leaves(defaults()):
            error = self.assertRaises(ConfigurationError, read, "", "c", {variable(path): "{not: right}"})
            spelled = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)[1:]
            for problem in error.problems:
                self.assertTrue(problem.path.startswith(spelled), f"{variable(path)}: {problem}")
                self.assertEqual(problem.where, f"environment variable {variable(path)}")

    def test_over_the_file(self) -> None:
        """A variable counts more than the file, the file more than the default."""
        configuration = self.read("server: {port: 1, region: here}", SERVER_PORT="2")
        self.assertEqual((configuration.server.port, configuration.server.region), (2, "here"))
        self.assertEqual(configuration.server.address, "127.0.0.1")

    def test_lists_by_index(self) -> None:
        """Elements of lists are named by index and made when missing; the order of the variables does not matter."""
        environment = {f"TAPE_DRIVES_{n}_ELEMENT": str(n) for n in reversed(range(11))}
        environment |= {f"TAPE_DRIVES_{n}_DEVICE": f"/dev/nst{n}" for n in range(11)}
        tape = self.read("", TAPE_LIBRARY="scsi", TAPE_CHANGER="/dev/sg0", **environment).tape
        self.assertEqual(
            [(drive.element, drive.device) for drive in tape.drives], [(n, f"/dev/nst{n}") for n in range(11)]
        )

    def test_whole_lists(self) -> None:
        """A variable that names a list holds YAML, and one that names an element of it counts more."""
        configuration = self.read("", SERVER_DOMAINS="[a.example, b.example]", SERVER_DOMAINS_1="c.example")
        self.assertEqual(configuration.server.domains, ("a.example", "c.example"))

    def test_names_with_underscores(self) -> None:
        """Keys that contain the separator are found."""
        configuration = self.read(
            "", CLASSES_DEEP_ARCHIVE_TAPE_COPIES_0="vault", CLASSES_DEEP_ARCHIVE_TAPE_COPIES_1="main"
        )
        self.assertEqual(configuration.classes["DEEP_ARCHIVE"].tape_copies, ("vault", "main"))

    def test_unknown(self) -> None:
        """A variable that names no setting is a mistake, also beyond the end of a list."""
        for name in (
            "SERVER_PROT",
            "SERVER_",
            "TAPE_DRIVES_1_DEVICE",
            "SERVER_PORT_X",
            "POOLS_OTHER_VERIFY",
            "SERVER_DOMAINS_01",
        ):
            self.assertMistakes([f"environment variable COLDSTORE_{name}: names no setting"], **{name: "1"})

    def test_others_are_left_alone(self) -> None:
        """Variables of the tests, of the virtual library and of the set-up, and of others, are not ours."""
        self.assertEqual(self.read("", TEST_X="1", VTL_READY_SECONDS="1", SETUP_CACHE="/c"), Configuration())
        self.assertEqual(read(None, "", {"HOME": "/root", "coldstore_server_port": "x"}), Configuration())

    def test_values_are_plain(self) -> None:
        """A value with YAML's own signs needs no quotes."""
        self.assertEqual(self.read("", SERVER_ADDRESS="::1").server.address, "::1")
        self.assertIsNone(self.read("admin: {socket: /s}", ADMIN_SOCKET="null").admin.socket)


class CommandLineTests(SynchronousTestCase):
    """What ``twistd coldstore`` does with a configuration that cannot be used."""

    def test_all_printed_nothing_touched(self) -> None:
        """Every mistake is printed, the exit status is 1, and the state directory is not made."""
        state = Path(self.mktemp()).absolute()
        path = Path(self.mktemp())
        path.write_text(f"state_directory: {state}\nserver: {{port: x}}\nfoo: 1\n")
        printed = io.StringIO()
        self.patch(sys, "stderr", printed)
        options = Options()
        options.parseOptions(["--config", str(path)])
        self.assertEqual(self.assertRaises(SystemExit, makeService, options).code, 1)
        self.assertIn("coldstore: 2 mistakes in the configuration\n", printed.getvalue())
        self.assertIn(f"{path}:2: server.port: 'x' is not a whole number\n", printed.getvalue())
        self.assertIn(f"{path}:3: foo: there is no such setting", printed.getvalue())
        self.assertFalse(state.exists())


class YamlAgreesTests(SynchronousTestCase):
    """The trees of our reader and PyYAML's own values agree."""

    def test_example(self) -> None:
        """The example has the same keys for PyYAML's safe loader."""

        def keys(node: Any) -> Any:
            return {name: keys(inner) for name, inner in node.items()} if isinstance(node, Mapping) else None

        def ours(node: tree.Node) -> Any:
            return (
                {name: ours(inner) for name, inner in node.entries.items()}
                if isinstance(node, tree.Mapping)
                else None
            )

        written, _ = tree.parsed(EXAMPLE.read_text(), "example")
        assert written is not None
        self.assertEqual(ours(written), keys(yaml.safe_load(EXAMPLE.read_text())))
