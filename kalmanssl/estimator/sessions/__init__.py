"""Models of several sessions with shared dynamics: fit, cross-fitting and alignment of new sessions."""

from kalmanssl.estimator.sessions._alignment import SessionAlignment as SessionAlignment
from kalmanssl.estimator.sessions._behavior import session_features as session_features
from kalmanssl.estimator.sessions._fit import fit_sessions as fit_sessions
from kalmanssl.estimator.sessions._fit import set_sessions as set_sessions
from kalmanssl.estimator.sessions._inputs import group_sessions as group_sessions
from kalmanssl.estimator.sessions._inputs import session_name as session_name
from kalmanssl.estimator.sessions._sessions import SessionsMixin as SessionsMixin
