"""Whether the server lives, is ready, and how it fares."""

from fastapi import APIRouter

router = APIRouter()
