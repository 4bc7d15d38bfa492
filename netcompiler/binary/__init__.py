"""Caffe's binary files <-> arrays: .caffemodel, its HDF5 form, and .binaryproto.

A .caffemodel is a serialised NetParameter, nearly all of it float arrays. Parsing it with protobuf copies every byte;
here a small walker over the wire format finds where the arrays lie in the mapped file, and numpy views them there.
"""

from .hdf5 import read_h5, write_h5
from .net import read_net
from .read import merge, read_blobproto, read_caffemodel
from .write import saved, write_caffemodel

__all__ = ["merge", "read_blobproto", "read_caffemodel", "read_h5", "read_net", "saved", "write_caffemodel", "write_h5"]
