"""Decoding one bin after another."""

from kalmanssl.decoding.online._decoder import LatentStream as LatentStream
from kalmanssl.decoding.online._decoder import OnlineBehavior as OnlineBehavior
from kalmanssl.decoding.online._decoder import OnlineDecoder as OnlineDecoder
from kalmanssl.decoding.online._decoder import OnlineMixin as OnlineMixin
from kalmanssl.decoding.online._labels import OnlineCategory as OnlineCategory
from kalmanssl.decoding.online._labels import OnlineLabels as OnlineLabels
from kalmanssl.decoding.online._numbers import OnlineNumbers as OnlineNumbers
from kalmanssl.decoding.online._numbers import OnlinePosition as OnlinePosition
