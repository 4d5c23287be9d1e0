"""A module like TensorRT's over a plain implementation: it raises what the real one would raise.

`checked(api, implementation)` goes into `sys.modules["tensorrt"]`. Names that the version lacks raise AttributeError,
arguments that fit no overload TypeError, properties that are read-only AttributeError, a class whose `__init__` was
left out by a user's own class TypeError; `api.used` and `api.missed` tell afterwards what was asked for.

The implementation is any object with attributes named as in TensorRT: classes that are called with the constructor's
arguments, and functions. Whatever it is given are plain values, by position, in the order of the true signature:

- tuples of integers for Dims, members of `api.enum(...)`, buffers as they came, its own objects for its own objects,
- objects of a user's class (of ILogger, IProgressMonitor, IOutputAllocator, ...) as they are.

What it returns becomes what the true signature says: a tuple Dims, the name of a member that member, bytes (or what
has `__bytes__`) an IHostMemory, any other object one of that class, whose properties are the object's attributes.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from simulated.c_classes import HOST_MEMORY, Extents
from simulated.fitting import INTEGERS, Misfit, fit, fit_call
from simulated.signatures import Signature

if TYPE_CHECKING:
    from simulated.api import Api, Class

UNMADE = object()
PYTHON_OWN = ("__init__", "__del__", "__hash__", "__getstate__", "__setstate__", "__nonzero__")


def checked(api: Api, implementation: Any) -> types.ModuleType:
    """The module `tensorrt` of a version over an implementation; see above."""
    return Double(api, implementation).module


class Double:
    """One version's classes over one implementation.

    Attributes:
        api: of the version.
        classes: name -> class, without enums.
        module: with all of them.
    """

    def __init__(self, api: Api, implementation: Any) -> None:
        self.api, self.implementation = api, implementation
        self.classes: dict[str, type] = {}
        self._wrapped: WeakValueDictionary[int, Any] = WeakValueDictionary()
        for name in api.classes:
            if name not in api.enums:
                self._make(name)
        self.module = Module(self)

    def named(self, name: str) -> Any:
        """A class or an enum."""
        return self.api.enums[name] if name in self.api.enums else self.classes[name]

    def is_ours(self, value: object) -> bool:
        return type(type(value)) is DoubleType

    def check_made(self, value: Any) -> None:
        """Raise TypeError where a user's class did not call `__init__` of its base."""
        if self.is_ours(value) and _inner(value) is UNMADE:
            base = next(kind for kind in type(value).__mro__ if "_path" in vars(kind))
            raise TypeError(f"tensorrt.{base._path}.__init__() must be called when overriding __init__")

    def unwrap(self, value: Any) -> Any:
        """What the implementation knows a value as."""
        if not self.is_ours(value) or "_path" not in vars(type(value)):  # a user's own class
            return value
        inner = _inner(value)
        return tuple(inner) if value._path.startswith("Dims") else inner

    def wrap(self, value: Any, kind: str, where: str) -> Any:
        """What a user gets for what the implementation returned.

        Args:
            value: returned.
            kind: of the result, as the signature writes it.
            where: it was returned, for errors.
        """
        if value is None or self.is_ours(value):
            return value
        if (item := re.fullmatch(r"(?:List|list)\[(.*)\]", kind)) is not None:
            return [self.wrap(part, item[1], where) for part in value]
        name = self.api.class_named(kind)
        if name is None:
            if kind == "None":
                return None
            expected = {"bool": bool, "str": str, "float": (float, int), **dict.fromkeys(INTEGERS, int)}.get(kind)
            if expected and not isinstance(value, expected):
                raise TypeError(f"the simulation returned {value!r} from {where}; expected {kind}")
            return value
        if name in self.api.enums:
            named = getattr(value, "name", value)
            if named not in self.api.enums[name]._members:
                raise TypeError(f"the simulation returned {value!r} from {where}; expected a {name}")
            return self.api.member(name, named)
        return self._wrap_object(value, name)

    def _wrap_object(self, value: Any, name: str) -> Any:
        if name.startswith("Dims"):
            value = Extents(value)
        known = self._wrapped.get(id(value))
        if known is not None and _inner(known) is value:
            return known
        exact = type(value).__name__
        if exact in self.classes and issubclass(self.classes[exact], self.classes[name]):
            name = exact
        kind = self.classes[name]
        if issubclass(kind, bytes):
            made: Any = bytes.__new__(kind, bytes(value))
        else:
            made = object.__new__(kind)
        object.__setattr__(made, "_inner", value)
        if not issubclass(kind, bytes):
            self._wrapped[id(value)] = made
        return made

    def call(self, function: Callable[..., Any] | None, where: str, signature: Signature, given: Sequence[Any]) -> Any:
        """Let the implementation do what was asked."""
        if function is None:
            raise NotImplementedError(f"the simulation has no {where}")
        return self.wrap(function(*given), signature.returns, where)

    def _make(self, name: str) -> type:
        """The class of a name, after its bases."""
        if name in self.classes:
            return self.classes[name]
        kind = self.api.classes[name]
        bases = tuple(self._make(base) for base in kind.bases) or ((bytes,) if name == "IHostMemory" else (object,))
        space: dict[str, Any] = {"_path": name, "_double": self, "__init__": self._constructor(kind)}
        if bases == (object,):
            space.update(__slots__=("__weakref__", "_inner"))
        elif name != "IHostMemory":
            space.update(__slots__=())
        if name == "IHostMemory":
            space.update(HOST_MEMORY)
        if not kind.bases:
            space.update(__new__=_new, __getattr__=_absent)
        space.update({key: self._method(kind, key) for key in kind.methods if key not in PYTHON_OWN})
        space.update({key: self._property(kind, key) for key in kind.properties})
        self.classes[name] = DoubleType(name.rpartition(".")[2], bases, space)
        return self.classes[name]

    def _constructor(self, kind: Class) -> Callable[..., None]:
        overloads = kind.methods.get("__init__", ())

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            double: Double = self._double
            if not overloads:
                raise TypeError(f"tensorrt.{kind.name}: No constructor defined!")
            double.api.used.add(f"{kind.name}.__init__")
            _, given = fit_call(double, overloads, args, kwargs)
            make = getattr(double.implementation, kind.name, Extents if kind.name == "Dims" else None)
            if make is None and any(overload.parameters == () for overload in overloads):
                object.__setattr__(self, "_inner", None)  # a class to derive from
            elif make is None:
                raise NotImplementedError(f"the simulation has no {kind.name}")
            else:
                object.__setattr__(self, "_inner", make(*given))
            if _inner(self) is not None and "_path" in vars(type(self)):
                double._wrapped[id(_inner(self))] = self

        return __init__

    def _method(self, kind: Class, name: str) -> Any:
        overloads, where = kind.methods[name], f"{kind.name}.{name}"

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            double: Double = self._double
            double.check_made(self)
            double.api.used.add(where)
            signature, given = fit_call(double, overloads, args, kwargs)
            return double.call(getattr(_inner(self), name, None), where, signature, given)

        def function(*args: Any, **kwargs: Any) -> Any:
            self.api.used.add(where)
            signature, given = fit_call(self, overloads, args, kwargs)
            owner = getattr(self.implementation, kind.name, None)
            return self.call(getattr(owner, name, None), where, signature, given)

        method.__name__ = name
        return staticmethod(function) if name in kind.static else method

    def _property(self, kind: Class, name: str) -> property:
        accessors, where = kind.properties[name], f"{kind.name}.{name}"

        def get(self: Any) -> Any:
            double: Double = self._double
            double.check_made(self)
            double.api.used.add(where)
            try:
                value = len(memoryview(self)) if where == "IHostMemory.nbytes" else getattr(_inner(self), name)
            except AttributeError as error:
                raise NotImplementedError(f"the simulation has no {where} ({error})") from error
            return double.wrap(value, accessors.get.returns, where)  # type: ignore[union-attr]

        def put(self: Any, value: Any) -> None:
            double: Double = self._double
            double.check_made(self)
            double.api.used.add(where)
            wanted = accessors.set.parameters[-1].type  # type: ignore[union-attr]
            name_of = double.api.class_named(wanted)
            try:
                plain = fit(double, value, wanted, none=name_of is not None and name_of not in double.api.enums)
            except Misfit:
                raise TypeError(
                    f"(): incompatible function arguments. TensorRT {double.api.version} takes {wanted} for {where}; "
                    f"invoked with: {value!r}"
                ) from None
            setattr(_inner(self), name, plain)

        return property(get if accessors.get is not None else None, put if accessors.set is not None else None)


class DoubleType(type):
    """The class of all classes of a double, as pybind11_type."""

    _path: str
    _double: Double

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        cls._double.check_made(made)
        return made

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or "_path" not in {key for kind in cls.__mro__ for key in vars(kind)}:
            raise AttributeError(f"type object '{cls.__name__}' has no attribute '{name}'")
        api = cls._double.api
        owner = api.find(cls._path, "constants", name)
        if owner is not None:
            enum, member = owner.constants[name]
            return getattr(api.enums[enum], member) if member else cls._double.named(enum)
        api.missed.add(f"{cls._path}.{name}")
        raise AttributeError(f"type object 'tensorrt.{cls._path}' has no attribute '{name}' (TensorRT {api.version})")


class Module(types.ModuleType):
    """What `import tensorrt` gives."""

    def __init__(self, double: Double) -> None:
        super().__init__("tensorrt", f"A double of TensorRT {double.api.version}.")
        self._double = double
        self.__version__ = double.api.version

    def __getattr__(self, name: str) -> Any:
        double: Double = self.__dict__["_double"]
        api = double.api
        if name.startswith("__") or not api.has(name):
            api.missed.add(name)
            raise AttributeError(f"module 'tensorrt' has no attribute '{name}' (TensorRT {api.version})")
        api.used.add(name)
        if name in api.values:
            return api.member(*api.values[name])
        if name in api.classes:
            return double.named(name)
        overloads = api.functions[name]

        def function(*args: Any, **kwargs: Any) -> Any:
            signature, given = fit_call(double, overloads, args, kwargs)
            return double.call(getattr(double.implementation, name, None), name, signature, given)

        return function


def _inner(value: Any) -> Any:
    return object.__getattribute__(value, "_inner")


def _new(cls: type, *args: Any, **kwargs: Any) -> Any:
    made = bytes.__new__(cls) if issubclass(cls, bytes) else object.__new__(cls)
    object.__setattr__(made, "_inner", UNMADE)
    return made


def _absent(self: Any, name: str) -> Any:
    """An attribute of an instance that neither the class nor a user's own class has."""
    if name.startswith("_"):
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
    return DoubleType.__getattr__(type(self), name)
