"""What enters and what leaves the modules that own parameters, in one piece of a pass."""

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .scope import refused

if TYPE_CHECKING:
    from editing.model.view import ModelView

Args = tuple[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Use:
    """One call of a module; of a table of rows, the look-up itself, before any scale.

    `entering` are the call's arguments, or the ids of what was looked up.
    """

    path: str
    module: nn.Module
    entering: "Args | Tensor"
    leaving: Tensor

    @property
    def entered(self) -> Tensor:
        """The first argument."""
        if isinstance(self.entering, Tensor):
            return self.entering
        args, named = self.entering
        return args[0] if args else next(iter(named.values()))

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """The module's own parameters, by the names they have in it."""
        return list(self.module.named_parameters(recurse=False))


@contextmanager
def hearing(view: "ModelView", modules: Mapping[str, nn.Module]) -> Generator[list[Use]]:
    """Take down each call of these modules; what leaves them carries gradients."""
    found: list[Use] = []

    def listener(path: str):  # noqa: ANN202 - a hook
        def hook(
            module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any], out: object
        ) -> Tensor:
            if not isinstance(out, Tensor):
                raise refused(view, path, "its module gives more than one tensor")
            return _take(found, Use(path, module, (args, dict(named)), out))

        return hook

    tables = {id(m.weight): path for path, m in modules.items() if isinstance(m, nn.Embedding)}
    with ExitStack() as stack:
        for path, module in modules.items():
            if not isinstance(module, nn.Embedding):
                handle = module.register_forward_hook(listener(path), with_kwargs=True)
                stack.callback(handle.remove)
        if tables:
            stack.enter_context(_Lookups(tables, modules, found))
        yield found


class _Lookups(TorchFunctionMode):
    """Hears of look-ups in tables wherever they are made: families wrap them in their own way."""

    def __init__(
        self, tables: Mapping[int, str], modules: Mapping[str, nn.Module], found: list[Use]
    ) -> None:
        super().__init__()
        self.tables, self.modules, self.found = tables, modules, found

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - any function of torch
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        if func is functional.embedding:
            ids, weight, *_ = args
            path = self.tables.get(id(weight))
            if path is not None:
                return _take(self.found, Use(path, self.modules[path], ids, out))
        return out


def _take(found: list[Use], use: Use) -> Tensor:
    """Note a use; what goes on is a copy, which others may change in place (Falcon does)."""
    if not use.leaving.requires_grad:
        use.leaving.requires_grad_()
    found.append(use)
    return use.leaving.clone()
