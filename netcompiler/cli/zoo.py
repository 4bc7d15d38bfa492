"""`netcompile zoo`: published nets, listed, told about and written, with options of their families."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any, get_type_hints

from .. import export, zoo
from ..errors import NetError
from ..files import atomic
from ..text import format_message
from ..zoo.catalogue import SUFFIX, Model
from ..zoo.parts import Sources

EXAMPLES = """\
examples:
  netcompile zoo
      all nets, each with its paper
  netcompile zoo ResNet-34
      what it is, and its options with their values
  netcompile zoo ResNet-34 -o net.prototxt
      write the net that classifies
  netcompile zoo ResNet-34 shortcut=A classes=20 --part train_val -o train_val.prototxt
      the net that trains, with shortcuts that learn nothing, on 20 classes
  netcompile zoo ResNet-34 net=train_val.prototxt --part solver -o solver.prototxt
      the paper's training of that net
  netcompile zoo CIFAR-ResNet-20 depth=74 width=8
      with other options it need not be a net that was published; without -o it is printed
"""
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile zoo`."""
    p = argparse.ArgumentParser(
        prog="netcompile zoo",
        description="List published nets, or write one: layers are named as in the published weights.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("name", metavar="NAME", nargs="?", help="a net of the list, in any case")
    p.add_argument("options", metavar="OPTION=VALUE", nargs="*", help="of its family: depth=74 shortcut=A classes=20")
    p.add_argument("--part", metavar="P", help="deploy (default), train_val, solver, or what the net has else")
    p.add_argument("-o", "--output", metavar="OUT", help="write this .prototxt")
    return p


def main(arguments: list[str]) -> int:
    """Run `netcompile zoo`. Returns the exit code."""
    options = parser().parse_args(arguments)
    if options.name is None:
        if options.part or options.output:
            raise NetError("no net is named", hint="netcompile zoo NAME -o OUT")
        _list()
        return 0
    model = zoo.find(options.name)
    if not options.options and not options.part and not options.output:
        _tell(model)
        return 0
    if options.output:
        export.check_targets([options.output], writers=(SUFFIX,))
    part = options.part or "deploy"
    if part not in model.parts:
        raise NetError(f'{model.name} has no part "{part}"', expected=" or ".join(model.parts), got=part)
    text = format_message(model.write(part, **_values(model, part, options.options)))
    if options.output:
        with atomic(options.output) as file:
            file.write(text.encode())
        print(f"wrote {options.output}")
    else:
        sys.stdout.write(text)
    return 0


def _values(model: Model, part: str, words: list[str]) -> dict[str, Any]:
    """The options as they were written, as values of the types that the part's function takes."""
    types = get_type_hints(model.parts[part]) | get_type_hints(Sources)
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise NetError("this is no option", expected="OPTION=VALUE", got=word)
        if name in found:
            raise NetError("an option is given twice", got=name)
        found[name] = _value(name, text, types.get(name, str))
    return found


def _value(name: str, text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise NetError(f"{name} does not fit", expected=expected, got=text) from None
    if text.lower() not in WORDS:
        raise NetError(f"{name} does not fit", expected="true or false", got=text)
    return WORDS[text.lower()]


def _list() -> None:
    width = max(map(len, zoo.MODELS))
    for model in zoo.MODELS.values():
        print(f"{model.name:<{width}}  {model.paper}")


def _tell(model: Model) -> None:
    told = {
        "paper": model.paper,
        "input": model.input,
        "error": model.error,
        "parameters": f"{model.parameters} (as published)" if model.parameters else "not published",
        "weights": model.weights,
    }
    print(model.name)
    for word, text in told.items():
        print(f"  {word:<11} {text}")
    for part in model.parts:
        shown = (f"{k}={_shown(v)}" for k, v in model.choices(part).items() if v is not None)
        print(f"  {part:<11} {' '.join(shown)}".rstrip())
        doc = inspect.getdoc(model.parts[part]) or ""
        for line in doc.partition("\n>>>")[0].strip().splitlines():
            print(f"    {line}".rstrip())


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
