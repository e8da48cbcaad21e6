"""Values of options that were not given: from environment variables, then from a file of defaults."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click

from gexpr.errors import InputError, did_you_mean, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Options that a default may be given for in every command that has them: at the top of the file, and as
#: GEXPR_CHECKPOINT, GEXPR_BATCH_SIZE and so on.
SHARED = (
    "checkpoint",
    "fasta",
    "device",
    "threads",
    "batch-size",
    "precision",
    "quiet",
    "verbose",
    "log-json",
)
CACHE = "cache"
META = "gexpr.defaults"
"""Where click's ``meta`` holds what :func:`find_defaults` found."""
#: To commands that can do without these, giving them means something: a default is for those that need them.
_ONLY_WHERE_REQUIRED = ("checkpoint", "fasta")
#: Commands that can do without, but only when told so; they do not look at a default then.
_MOSTLY_REQUIRED = {"predict": ("fasta",), "plot.variant": ("checkpoint", "fasta")}
#: What has to be said each time.
_NEVER = ("output", "force", "restart", "shard", "help")


class Default(NamedTuple):
    """A value, and where it comes from, in words."""

    value: Any
    source: str


def config_path() -> Path | None:
    """The file of defaults: ``$GEXPR_CONFIG`` (empty: none), else ``gexpr/config.toml`` in the XDG folder."""
    named = os.environ.get("GEXPR_CONFIG")
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CONFIG_HOME")
    path = (Path(base) if base else Path(os.path.expanduser("~")) / ".config") / "gexpr" / "config.toml"
    return path if path.is_file() else None


def read_config(path: Path | None) -> dict[str, Any]:
    """What the file of defaults says; nothing without a file.

    Raises:
        InputError: it is not TOML, or cannot be read.
    """
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise InputError(
            f"the file of defaults cannot be read: {error.strerror or error}", path=path
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the file of defaults is not TOML: {error}", path=path) from error


def _options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by their long names."""
    return {
        name.removeprefix("--"): param
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
        if name.startswith("--")
    }


def _check_names(content: Mapping[str, Any], path: Path | None, commands: Mapping[str, Any]) -> None:
    known = [*SHARED, CACHE, *commands]
    for name, value in content.items():
        if name not in known:
            raise InputError(
                f"{shown(name)} is neither a command nor an option that commands share "
                f"({', '.join((*SHARED, CACHE))}){did_you_mean(name, known)}",
                path=path,
            )
        if isinstance(value, dict) != (name in commands):
            kind = "a table, as the name of a command" if name in commands else "a value, not a table"
            raise InputError(f"{name} has to be {kind}", path=path)


Found = Mapping[str, "Default | Mapping[str, Default]"]
"""Defaults of a command's parameters by their Python names; of a group, those of each of its commands."""


def find_defaults(
    name: str, command: click.Command, commands: Mapping[str, Any], environ: Mapping[str, str]
) -> Found:
    """The defaults of a command's parameters.

    An environment variable wins over the command's table in the file, and that over the top of the file. The
    table of a command of a group is within the group's: ``[plot.region]``.

    Args:
        name: the command's name.
        command: the command, or a group of commands.
        commands: all commands by name.
        environ: the environment.

    Raises:
        InputError: the file is damaged, or has a name or value that does not fit.
    """
    path = config_path()
    content = read_config(path)
    _check_names(content, path, commands)
    table = content.get(name, {})
    if not isinstance(command, click.Group):
        return dict(_command_defaults(name, command, content, table, environ, path))
    for key, value in table.items():
        if key not in command.commands or not isinstance(value, dict):
            known = ", ".join(f"[{name}.{each}]" for each in command.commands)
            raise InputError(
                f"[{name}] {key}: options stand in {known}{did_you_mean(key, command.commands)}", path=path
            )
    return {
        sub: _command_defaults(f"{name}.{sub}", each, content, table.get(sub, {}), environ, path)
        for sub, each in command.commands.items()
    }


def default_map(found: Found) -> dict[str, Any]:
    """What click calls a default map: the values alone."""
    return {
        name: each.value if isinstance(each, Default) else default_map(each) for name, each in found.items()
    }


def in_use(ctx: click.Context) -> list[str]:
    """The defaults of the command that a context is of, in words."""
    found: Found = ctx.meta.get(META, {})
    own = found.get(ctx.info_name or "")
    defaults = own.values() if isinstance(own, Mapping) else found.values()
    return [f"{each.source} = {each.value}" for each in defaults if isinstance(each, Default)]


def is_default(ctx: click.Context, name: str) -> bool:
    """Whether a parameter was not given, but has a default of the environment or the file."""
    return ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT_MAP


def _command_defaults(
    name: str,
    command: click.Command,
    content: Mapping[str, Any],
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    path: Path | None,
) -> dict[str, Default]:
    """The defaults of one command; ``name`` is that of its table in the file, ``content`` all of the file."""
    options = _options(command)
    found: dict[str, Default] = {}

    def add(key: str, value: Any, source: str, where: Path | None) -> None:
        option = options[key]
        if isinstance(value, list) and not option.multiple:
            value = ",".join(map(str, value))
        try:
            for each in value if isinstance(value, list) else [value]:
                option.type(each, option)
        except click.UsageError as error:
            raise InputError(
                f"{source}: {shown(value)} is no value of --{key}: {error.message}", path=where
            ) from None
        if option.multiple and not isinstance(value, list):
            value = [value]
        assert option.name is not None
        found[option.name] = Default(value, source)

    def shared(key: str) -> bool:
        needed = key not in _ONLY_WHERE_REQUIRED or key in _MOSTLY_REQUIRED.get(name, ())
        return key in options and (needed or options[key].required)

    for key in filter(shared, SHARED):
        if key in content:
            add(key, content[key], key, path)
    for key, value in table.items():
        if key not in options or key in _NEVER:
            spoken = name.replace(".", " ")
            reason = "cannot have a default" if key in options else f"gexpr {spoken} has no such option"
            raise InputError(f"[{name}] {key}: {reason}{did_you_mean(key, set(options) - {key})}", path=path)
        add(key, value, f"[{name}] {key}", path)
    for key in filter(shared, SHARED):
        variable = "GEXPR_" + key.upper().replace("-", "_")
        if environ.get(variable):
            add(key, environ[variable], variable, None)
    return found


def cache_default() -> str | None:
    """The cache folder of the file of defaults, or None."""
    value = read_config(config_path()).get(CACHE)
    return None if value is None else os.path.expanduser(str(value))
