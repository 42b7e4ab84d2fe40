"""The asynchronous twin of Django's `BaseCacheTests`, made of its source: `cache.get(…)` becomes `await cache.aget(…)`.

Invariant: every call of a cache method that has a twin is awaited; only `in`, which Python cannot await, stays.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from types import ModuleType
from typing import Any

from django.core.cache.backends.base import BaseCache

#: Names in Django's tests that hold a cache, and methods of models in them.
_CACHES = ("cache", "caches", "cull_cache")
_MODELS = ("Poll", "defer_qs")
_OF_MODELS = ("delete", "create", "count")
_OF_CACHES = tuple(name[1:] for name in dir(BaseCache) if name.startswith("a") and hasattr(BaseCache, name[1:]))


def twin_of(module: ModuleType) -> tuple[type, int]:
    """The class, and how many calls in it are awaited."""
    tree = ast.parse(inspect.getsource(module.BaseCacheTests))
    twin = _Awaiting()
    made = ast.fix_missing_locations(twin.visit(tree))
    names = {**vars(module), "asyncio": asyncio, "retry": _retry}
    exec(compile(made, module.__file__ or "", "exec"), names)  # noqa: S102  (Django's own source)
    found: type = names["BaseCacheTests"]
    return found, twin.awaited


class _Awaiting(ast.NodeTransformer):
    def __init__(self) -> None:
        self.awaited = 0
        self._inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if self._inside or not node.name.startswith(("test_", "_perform_")):
            return node  # functions inside tests are given to the cache, which calls them
        self._inside = True
        self.generic_visit(node)
        self._inside = False
        fields: dict[str, Any] = {name: getattr(node, name, []) for name in node._fields}
        return ast.AsyncFunctionDef(**fields)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Attribute(value=ast.Name("time"), attr="sleep"):
                node.func.value = ast.Name("asyncio", ast.Load())
            case ast.Attribute(value=ast.Name("self"), attr=name) if name.startswith("_perform_"):
                pass
            case ast.Attribute(value=of, attr=name) if _root(of) in _CACHES and name in _OF_CACHES:
                node.func.attr = f"a{name}"
            case ast.Attribute(value=of, attr=name) if _root(of) in _MODELS and name in _OF_MODELS:
                node.func.attr = f"a{name}"
            case ast.Call(func=ast.Name("getattr"), args=[ast.Name("cache"), name]):
                node.func.args[1] = ast.BinOp(ast.Constant("a"), ast.Add(), name)
            case _:
                return node
        self.awaited += 1
        return ast.Await(node)


def _root(node: ast.AST) -> str:
    """The name an expression begins with."""
    while not isinstance(node, ast.Name):
        match node:
            case ast.Attribute(value=inner) | ast.Subscript(value=inner) | ast.Call(func=inner):
                node = inner
            case _:
                return ""
    return node.id


def _retry(retries: int = 3, delay: float = 1) -> Callable[[Any], Any]:
    """Django's decorator of tests that depend on time, for coroutine functions."""

    def decorated(test: Any) -> Any:
        @wraps(test)
        async def repeated(*args: Any) -> None:
            for _ in range(retries - 1):
                with suppress(AssertionError):
                    await test(*args)
                    return
                await asyncio.sleep(delay)
            await test(*args)

        return repeated

    return decorated
