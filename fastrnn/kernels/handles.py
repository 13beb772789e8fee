"""Named tuples by reference.

A tuple of a dozen arrays is more than a hundred numbers to Numba, which takes them apart and puts
them together again at every call; so compiling takes most of its time. Python keeps such tuples in
memory, as a `Reference`, and kernels hand on where they are: one number each. Their fields are read
as before, `states.H`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import typeof, types
from numba.core import cgutils
from numba.core.datamodel.models import PointerModel
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    register_model,
    unbox,
)


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


class Reference:
    """A named tuple of numbers and arrays as Python gives it to kernels, to which it is a `Handle`.

    Its fields are attributes here, too.
    """

    def __init__(self, fields: Any):
        self.fields = fields  # whose arrays stay as long as this
        self.words = np.array([word for field in fields for word in words_of(field)], np.int64)
        self.address = self.words.ctypes.data
        self._numba_type_ = Handle(typeof(fields))  # where Numba looks for it

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fields, name)


def words_of(field: int | float | np.ndarray) -> list[int]:
    """A number, or what Numba knows of an array, in words of 8 bytes as kernels have it."""
    if isinstance(field, np.ndarray):
        nobody = [0, 0]  # owns the memory, and so counts references
        data = [field.size, field.itemsize, field.ctypes.data]
        return [*nobody, *data, *field.shape, *field.strides]
    number = np.array(field)
    return [int(number.view(np.int64) if number.dtype == np.float64 else number)]


@unbox(Handle)
def unbox_reference(handle: Handle, reference: Any, c: Any) -> NativeValue:
    number = c.pyapi.object_getattr_string(reference, "address")
    place = c.builder.bitcast(c.pyapi.long_as_voidptr(number), c.context.get_value_type(handle))
    c.pyapi.decref(number)
    return NativeValue(place, is_error=c.pyapi.c_api_error())
