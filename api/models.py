"""Models that jobs may name."""

from fastapi import APIRouter

router = APIRouter()
