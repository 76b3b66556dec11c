"""Decoding one bin after another."""

from kalmanssl.decoding.online._decoder import LatentStream as LatentStream
from kalmanssl.decoding.online._decoder import OnlineCategory as OnlineCategory
from kalmanssl.decoding.online._decoder import OnlineDecoder as OnlineDecoder
from kalmanssl.decoding.online._decoder import OnlineMixin as OnlineMixin
from kalmanssl.decoding.online._decoder import OnlinePosition as OnlinePosition
