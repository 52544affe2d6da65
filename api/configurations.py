"""Configurations to download."""

from fastapi import APIRouter

router = APIRouter()
