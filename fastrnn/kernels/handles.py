"""Named tuples by reference.

A tuple of a dozen arrays is more than a hundred numbers to Numba, which takes them apart and puts
them together again at every call; so compiling takes most of its time. A kernel that Python calls
puts such tuples into its own memory, and hands on where they are: one number each. Their fields are
read as before, `states.H`.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.datamodel.models import PointerModel
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, register_model


class Handle(types.Type):
    """Numba's type of a reference to a named tuple."""

    def __init__(self, pointee: types.BaseNamedTuple):
        self.dtype = pointee  # as the model of pointers calls it
        self.instance_class = pointee.instance_class
        super().__init__(f"Handle({pointee})")

    @property
    def key(self) -> types.BaseNamedTuple:
        return self.dtype


register_model(Handle)(PointerModel)


@infer_getattr
class HandleAttributes(AttributeTemplate):
    key = Handle

    def generic_resolve(self, handle: Handle, name: str) -> Any:
        fields = handle.dtype.fields
        return handle.dtype[fields.index(name)] if name in fields else None


@lower_getattr_generic(Handle)
def read_field(context: Any, builder: Any, handle: Handle, value: Any, name: str) -> Any:
    index = handle.dtype.fields.index(name)
    place = cgutils.gep_inbounds(builder, value, 0, index)
    return context.unpack_value(builder, handle.dtype[index], place)


@intrinsic
def handle_of(typing: Any, fields: types.BaseNamedTuple) -> Any:
    """A reference to a named tuple, for as long as this kernel runs."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = cgutils.alloca_once(builder, context.get_data_type(fields))
        context.pack_value(builder, fields, args[0], place)
        return place

    return Handle(fields)(fields), codegen
